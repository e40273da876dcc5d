import { describe, expect, test } from "vitest";
import { ConnectionShedder } from "../../../src/transport/overload/connection-shedder.js";

const stepMs = 10;
/** What the service lets wait, in steps of work. */
const queuedSteps = 5;

/** Clients with a connection each, that come back when they are let in, and a service that serves so many a second. */
class World {
  nowMs = 0;
  most = 0;
  shed = 0;
  busy = 1;
  /** Whether connections stay open when they are asked to go; nothing is heard of them any more. */
  stay = false;
  readonly open = new Set<Client>();
  readonly clients: Client[];
  readonly shedder: ConnectionShedder;
  private owed = 0;
  private turnsEnd: (() => void)[] = [];
  private lastHeadroom = true;

  constructor(
    ratesPerS: readonly number[],
    private readonly capacityPerS: number,
  ) {
    this.shedder = new ConnectionShedder({
      maxConnections: 1_000,
      setMaxConnections: (most) => {
        this.most = most;
      },
      busyShare: () => this.busy,
      hasHeadroom: () => this.lastHeadroom,
      atTurnsEnd: (work) => this.turnsEnd.push(work),
      onShed: (count) => {
        this.shed += count;
      },
      now: () => this.nowMs,
    });
    this.clients = ratesPerS.map((ratePerS, at) => new Client(ratePerS, (at % 7) / 7, (client) => this.leave(client)));
    for (const client of this.clients) this.enter(client);
  }

  run(ms: number): { served: number; offered: number } {
    let served = 0;
    let offered = 0;
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; ) {
      this.nowMs += stepMs;
      for (const client of this.clients) {
        if (!this.open.has(client) && !this.stay && this.open.size < this.most) this.enter(client);
        if (!this.open.has(client)) continue;
        client.due += (client.ratePerS * stepMs) / 1_000;
        for (; client.due >= 1; client.due -= 1) {
          if (!this.open.has(client)) break;
          this.shedder.arrived(client);
          this.owed += 1;
          offered += 1;
        }
      }
      const can = Math.round((this.capacityPerS * stepMs) / 1_000);
      const now = Math.min(can, this.owed);
      for (let at = 0; at < now; at += 1) this.shedder.served();
      this.lastHeadroom = this.owed < can / 2;
      this.owed -= now;
      for (; this.owed > can * queuedSteps; this.owed -= 1) this.shedder.callShed();
      served += now;
      this.shedder.check();
      for (const work of this.turnsEnd.splice(0)) work();
    }
    return { served, offered };
  }

  private enter(client: Client): void {
    this.open.add(client);
    this.shedder.opened(client);
  }

  private leave(client: Client): void {
    this.open.delete(client);
    if (!this.stay) this.shedder.closed(client);
  }
}

class Client {
  constructor(
    public ratePerS: number,
    /** Of the next call, how much is due. */
    public due: number,
    private readonly onLeave: (client: Client) => void,
  ) {}
  leave(): void {
    this.onLeave(this);
  }
}

const equal = (count: number, ratePerS: number) => Array.from({ length: count }, () => ratePerS / count);

describe("whole connections are shed", () => {
  test.for([[20], [400]])("%i of them offering five times what can be served: about as much is left", ([count = 0]) => {
    const world = new World(equal(count, 15_000), 3_000);
    world.run(3_000);
    const { served, offered } = world.run(5_000);
    expect(served / 5).toBeGreaterThan(0.9 * 3_000);
    expect(offered).toBeLessThan(1.5 * served);
  });

  test("and taken again when more can be served", () => {
    const world = new World(equal(400, 15_000), 3_000);
    world.run(5_000);
    expect(world.open.size).toBeLessThan(150);
    for (const client of world.clients) client.ratePerS /= 10;
    world.run(2_000);
    expect(world.open.size).toBe(400);
    world.run(2_000);
    expect(world.most).toBe(1_000);
    expect(world.shedder.hasJustShed).toBe(true);
    world.run(10_000);
    expect(world.shedder.hasJustShed).toBe(false);
  });

  test("but not while turning calls away costs little", () => {
    const world = new World(equal(20, 3_500), 3_000);
    world.run(5_000);
    expect(world.shed).toBe(0);
  });

  test("nor while the event loop has time left", () => {
    const world = new World(equal(20, 15_000), 3_000);
    world.busy = 0.5;
    world.run(5_000);
    expect(world.shed).toBe(0);
  });

  test("nor the only one, of a proxy say", () => {
    const world = new World([15_000], 3_000);
    world.run(5_000);
    expect(world.shed).toBe(0);
  });

  test("the busiest first: who offers little stays", () => {
    const world = new World([6_000, 6_000, ...equal(10, 1_000)], 3_000);
    world.run(3_000);
    const [first, second, ...others] = world.clients as [Client, Client, ...Client[]];
    expect([first, second].filter((client) => world.open.has(client)).length).toBe(1);
    expect(others.every((client) => world.open.has(client))).toBe(true);
  });

  test.for([
    [20, 10, 18],
    [2, 0, 1],
    [1, 0, 0],
  ])("of %i in the middle of a turn that brings too much, %i to %i", ([count = 0, least = 0, most = 0]) => {
    const left: number[] = [];
    let nowMs = 0;
    const shedder = new ConnectionShedder({
      maxConnections: 1_000,
      setMaxConnections: () => {},
      busyShare: () => 1,
      hasHeadroom: () => false,
      onShed: () => {},
      atTurnsEnd: () => {},
      now: () => nowMs,
    });
    const connections = Array.from({ length: count }, (_, at) => ({
      leave: () => {
        left.push(at);
      },
    }));
    for (const connection of connections) shedder.opened(connection);
    for (let call = 0; call < 200; call += 1) {
      for (const [at, connection] of connections.entries()) {
        if (left.includes(at)) continue;
        nowMs += 0.01;
        shedder.arrived(connection);
        shedder.callShed();
      }
      // What is shed by the hundred is a burst.
      if (call * count < 120) expect(left).toEqual([]);
    }
    expect(left.length).toBeGreaterThanOrEqual(least);
    expect(left.length).toBeLessThanOrEqual(most);
  });

  test("one that was asked to go and stays takes nothing from another", () => {
    const world = new World([9_000, 9_000, ...equal(10, 50)], 3_000);
    world.stay = true;
    world.run(1_000);
    expect(world.shed).toBeGreaterThan(0);
    expect(world.most).toBeGreaterThanOrEqual(world.open.size + world.shed);
  });
});
