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
      isCrowded: () => this.owed > 400,
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
    let served = 0;
    let offered = 0;
    const open: number[] = [];
    for (let time = 0; time < 50; time += 1) {
      const seen = world.run(100);
      served += seen.served;
      offered += seen.offered;
      open.push(world.open.size);
    }
    expect(served / 5).toBeGreaterThan(0.9 * 3_000);
    expect(offered).toBeLessThan(1.5 * served);
    // A fifth of them is what can be served.
    expect(Math.max(...open)).toBeLessThanOrEqual(0.3 * count);
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

  test("one that was asked to go and stays takes nothing from another", () => {
    const world = new World([9_000, 9_000, ...equal(10, 50)], 3_000);
    world.stay = true;
    world.run(1_000);
    expect(world.shed).toBeGreaterThan(0);
    expect(world.most).toBeGreaterThanOrEqual(world.open.size + world.shed);
  });
});

/** One turn of the event loop after the other, with a service that can do 3,000 calls a second. */
class Turns {
  readonly left = new Set<number>();
  busy = 1;
  isIdle = false;
  isCrowded = false;
  most = 0;
  private nowMs = 0;
  private turnsEnd: (() => void)[] = [];
  private readonly shedder = new ConnectionShedder({
    maxConnections: 1_000,
    setMaxConnections: (most) => {
      this.most = most;
    },
    busyShare: () => this.busy,
    hasHeadroom: () => this.isIdle,
    isCrowded: () => this.isCrowded,
    onShed: () => {},
    atTurnsEnd: (work) => this.turnsEnd.push(work),
    now: () => this.nowMs,
  });
  private connections: { leave(): void }[];

  /** Of so many connections, that have had just enough to do for a while. */
  constructor(
    count: number,
    private readonly capacityPerS = 3_000,
  ) {
    this.connections = this.open(count);
    for (let turn = 0; turn < 200; turn += 1) this.turn(10, this.capacityPerS / 100, 0);
    expect(this.left.size).toBe(0);
  }

  /** Nothing arrives. */
  pass(ms: number): void {
    for (let passed = 0; passed < ms; passed += 101) {
      this.nowMs += 101;
      this.shedder.check();
    }
  }

  /** All go, and half as many others come, which bring nothing yet. */
  renew(): void {
    for (const [at, connection] of this.connections.entries()) if (!this.left.has(at)) this.shedder.closed(connection);
    this.left.clear();
    this.connections = this.open(this.connections.length / 2);
  }

  private open(count: number): { leave(): void }[] {
    const opened = Array.from({ length: count }, (_, at) => {
      const connection = {
        leave: () => {
          this.left.add(at);
          this.shedder.closed(connection);
        },
      };
      return connection;
    });
    for (const connection of opened) this.shedder.opened(connection);
    return opened;
  }

  /** Reads so many calls, equally many of each connection that stays, and sheds some of them, which takes so long. */
  turn(tookMs: number, arrived: number, shed: number, wasFull = false, servedPerS = this.capacityPerS): void {
    const staying = this.connections.filter((_, at) => !this.left.has(at));
    this.nowMs += 1;
    this.shedder.turnBegan();
    for (let call = 0; call < arrived; call += 1) this.shedder.arrived(staying[call % staying.length] ?? null);
    if (wasFull) this.shedder.turnWasFull();
    this.nowMs += tookMs;
    for (let call = 0; call < (tookMs * servedPerS) / 1_000; call += 1) this.shedder.served();
    for (let call = 0; call < shed; call += 1) this.shedder.callShed();
    for (const work of this.turnsEnd.splice(0)) work();
    this.shedder.check();
  }
}

describe("at the end of a turn of the event loop", () => {
  test("that shed many calls a flood is cut at once: what arrives is what had come when the turn began to read", () => {
    const turns = new Turns(20);
    // 15,000 a second, of which each turn reads what has come during the one before it.
    turns.turn(10, 0, 0);
    turns.turn(20, 150, 0);
    turns.turn(40, 300, 0);
    expect(turns.left.size).toBe(0);
    turns.turn(80, 600, 400);
    // What fits is 1.2 times 3,000 a second: 5 of 20.
    expect(turns.left.size).toBeGreaterThanOrEqual(12);
    expect(turns.left.size).toBeLessThanOrEqual(16);
  });

  test("a crowd that has come at once, and calls again when batches of it are answered, is no flood", () => {
    const turns = new Turns(20);
    turns.isCrowded = true;
    turns.turn(50, 1_000, 0, false, 0);
    // What was held up for a while is answered in a few large batches.
    for (let batch = 0; batch < 4; batch += 1) {
      turns.turn(20, 0, 0, false, 35_000);
      turns.turn(40, 700, 0, false, 0);
    }
    expect(turns.left.size).toBe(0);
  });

  test("a crowd to which more comes than is answered is one, though nothing was shed yet", () => {
    const turns = new Turns(20);
    turns.turn(50, 0, 0);
    turns.isCrowded = true;
    turns.turn(50, 750, 0);
    expect(turns.left.size).toBe(0);
    turns.turn(50, 750, 0);
    turns.turn(50, 750, 0);
    expect(turns.left.size).toBeGreaterThanOrEqual(12);
  });

  test("what has come while the event loop stood still is no flood", () => {
    const turns = new Turns(20);
    turns.turn(200, 30, 0);
    turns.turn(60, 600, 300);
    expect(turns.left.size).toBe(0);
  });

  test("that left something unread more is cut than was seen", () => {
    const seen = new Turns(20);
    seen.turn(100, 300, 0);
    seen.turn(100, 600, 400);
    const unread = new Turns(20);
    unread.turn(100, 300, 0);
    unread.turn(100, 600, 400, true);
    expect(unread.left.size).toBeGreaterThan(seen.left.size);
  });

  test("and when there is always something left, half of the connections at a time", () => {
    const turns = new Turns(64);
    const left: number[] = [];
    // Turns that take longer and longer read ever less a second: by what they read, little is too much.
    for (let turn = 0; turn < 12; turn += 1) {
      turns.turn(150 + 10 * turn, 600, 400, true);
      left.push(64 - turns.left.size);
    }
    expect(left.at(-1)).toBeLessThanOrEqual(8);
    expect(left.at(-1)).toBeGreaterThanOrEqual(1);
  });

  test("what is served while much is shed is not what can be served", () => {
    const turns = new Turns(20);
    turns.busy = 0.5;
    for (let turn = 0; turn < 10; turn += 1) turns.turn(100, 800, 500, false, 0);
    expect(turns.left.size).toBe(0);
    turns.busy = 1;
    turns.turn(100, 800, 500, false, 0);
    // 8,000 a second: 9 of 20 connections bring 1.2 times what can be served.
    expect(20 - turns.left.size).toBeGreaterThanOrEqual(8);
  });

  test.for([
    ["with 1.2 times what can be served from those that stay, one more is taken", 360, 1],
    ["with half of what can be served from those that stay, half as many more are taken", 150, 2],
  ] as const)("%s", ([, arrived, more]) => {
    const turns = new Turns(20);
    turns.turn(100, 300, 0);
    turns.turn(100, 1_500, 900);
    const staying = 20 - turns.left.size;
    expect(staying).toBe(5);
    turns.isIdle = true;
    for (let turn = 0; turn < 4; turn += 1) turns.turn(100, arrived, 0);
    expect(turns.most).toBe(staying + more);
  });

  test("that sheds what is left of a flood, those who have come since are left alone, and all are taken again", () => {
    const turns = new Turns(20);
    turns.turn(100, 300, 0);
    turns.turn(100, 1_500, 900);
    expect(turns.left.size).toBeGreaterThan(0);
    turns.renew();
    turns.turn(120, 0, 400);
    turns.turn(120, 0, 400);
    expect(turns.left.size).toBe(0);
    turns.isIdle = true;
    for (let turn = 0; turn < 30; turn += 1) turns.turn(120, 0, 0);
    expect(turns.most).toBe(1_000);
  });

  test("a call now and then does not keep connections away for ever", () => {
    const turns = new Turns(20);
    turns.turn(100, 300, 0);
    turns.turn(100, 1_500, 900);
    expect(turns.most).toBeLessThan(1_000);
    turns.isIdle = true;
    turns.pass(500);
    turns.turn(20, 1, 0);
    turns.pass(5_000);
    expect(turns.most).toBe(1_000);
  });

  test("nor does it when nothing was ever served", () => {
    const turns = new Turns(20, 0);
    for (let turn = 0; turn < 20; turn += 1) turns.turn(100, 1_500, 900);
    expect(20 - turns.left.size).toBe(1);
    turns.isIdle = true;
    turns.pass(10_000);
    expect(turns.most).toBe(1_000);
  });

  test("the only connection is left, whatever it brings", () => {
    const turns = new Turns(1);
    for (let turn = 0; turn < 10; turn += 1) turns.turn(100, 600, 500, true);
    expect(turns.left.size).toBe(0);
  });
});
