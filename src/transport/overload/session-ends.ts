import type { Http2Session } from "node:http2";
import type { Socket } from "node:net";

/** Open streams that end with their connections in one turn of the event loop. */
const maxInTurn = 100;
/** Node's own listener, by which a session learns that its connection is closed. A test sees whether it is still there. */
const closeListener = "socketOnClose";

/** What an ending session leaves behind, and what is to be done while it waits. */
export interface EndingSession {
  openStreams(): number;
  stopReading(): void;
}

interface Ending {
  readonly session: EndingSession;
  readonly end: () => void;
}

/**
 * Bounds how many streams end with their connections in one turn of the event loop. Each costs Node 100 us and more, and
 * it is clients that decide when: 80 connections with 100 streams each, closed at the same moment, would hold everything
 * up for 0.7 s. So they end one after the other, each in a turn of its own.
 */
export class SessionEnds {
  private readonly waiting: Ending[] = [];
  private inTurn = 0;
  private isTurn = false;

  /** Returns what ends the session at once. */
  opened(session: Http2Session, ending: EndingSession): Http2Session["destroy"] {
    const destroy = session.destroy.bind(session);
    let isAsked = false;
    session.destroy = (error, code) => {
      if (isAsked) return;
      isAsked = true;
      this.end({ session: ending, end: () => destroy(error, code) });
    };
    const { socket } = session;
    const onClose = socket.listeners("close").find(({ name }) => name === closeListener) as (() => void) | undefined;
    if (onClose) {
      const ends = this;
      socket.off("close", onClose);
      socket.once("close", function (this: Socket) {
        ends.end({ session: ending, end: () => onClose.call(this) });
      });
    }
    return destroy;
  }

  private end(next: Ending): void {
    if (this.fits(next)) {
      this.run(next);
      return;
    }
    next.session.stopReading();
    this.waiting.push(next);
  }

  private fits({ session }: Ending): boolean {
    const streams = session.openStreams();
    return streams === 0 || this.inTurn === 0 || this.inTurn + streams <= maxInTurn;
  }

  private run({ session, end }: Ending): void {
    this.inTurn += session.openStreams();
    // The first comes in the very turn that is under way.
    if (!this.isTurn) setImmediate(() => setImmediate(() => this.turnEnded()));
    this.isTurn = true;
    end();
  }

  private turnEnded(): void {
    this.isTurn = false;
    this.inTurn = 0;
    for (let next = this.waiting[0]; next && this.fits(next); next = this.waiting[0]) {
      this.waiting.shift();
      this.run(next);
    }
  }
}
