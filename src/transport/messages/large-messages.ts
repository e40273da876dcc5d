import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Overloaded, StoreUnavailable } from "../../domain/refusal.js";
import type { MaybePromise } from "./decode.js";

/** Of each message this much does not count: most have no more. */
const freeBytes = 4 * 1024;
const maxOccupiedBytes = 128 * 1024 * 1024;
/** Of one connection, so that it is left to others as well. A proxy brings many callers on one. */
const connectionShare = 0.5;

/**
 * What large messages occupy in both front ends together: the bytes that have arrived, what has been inflated of them, and the answers
 * that are not taken yet. Clients may have thousands of calls open, and each could bring as much as the largest method accepts, or be
 * answered with megabytes and read none of them: so it is counted, and a call that it gets too much with is shed.
 */
export class LargeMessages {
  private occupiedBytes = 0;
  private readonly byConnection = new WeakMap<object, { bytes: number }>();

  constructor(private readonly maxBytes = maxOccupiedBytes) {}

  /** One call's message. The connection is whatever object stands for it. */
  open(connection: object): LargeMessage {
    let addedBytes = 0;
    let ownBytes = 0;
    let ofConnection: { bytes: number } | undefined;
    let isClosed = false;
    return {
      get isClosed() {
        return isClosed;
      },
      add: (bytes) => {
        // What is inflated still, of a call whose client has gone, would count for ever.
        if (isClosed) return false;
        addedBytes += bytes;
        const moreBytes = Math.max(0, addedBytes - freeBytes) - ownBytes;
        if (moreBytes <= 0) return true;
        ofConnection ??= this.of(connection);
        if (this.occupiedBytes + moreBytes > this.maxBytes) return false;
        if (ofConnection.bytes + moreBytes > this.maxBytes * connectionShare) return false;
        ownBytes += moreBytes;
        ofConnection.bytes += moreBytes;
        this.occupiedBytes += moreBytes;
        return true;
      },
      close: () => {
        isClosed = true;
        this.occupiedBytes -= ownBytes;
        if (ofConnection) ofConnection.bytes -= ownBytes;
        ownBytes = 0;
      },
    };
  }

  private of(connection: object): { bytes: number } {
    let ofConnection = this.byConnection.get(connection);
    if (!ofConnection) {
      ofConnection = { bytes: 0 };
      this.byConnection.set(connection, ofConnection);
    }
    return ofConnection;
  }
}

/** An answer whose bytes count until its client has taken them. Throws when there is no memory for it. */
export function held(method: DescMethod, answer: MaybePromise<Buffer>, large: LargeMessage): MaybePromise<Buffer> {
  if (answer instanceof Promise) return answer.then((bytes) => held(method, bytes, large));
  hold(method, answer.length, large);
  return answer;
}

/** The same of one of which only the length is known yet. What has changed something is done, which Overloaded would deny. */
export function hold({ idempotency }: DescMethod, bytes: number, large: LargeMessage): void {
  if (large.isClosed || large.add(bytes)) return;
  const isDone = idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  throw isDone ? new StoreUnavailable("there is no memory for the answer") : new Overloaded();
}

export interface LargeMessage {
  /** The call is over, and nothing of it counts any more. */
  readonly isClosed: boolean;
  /** False: there is no memory for these bytes, or nobody waits for what would be made of them. */
  add(bytes: number): boolean;
  close(): void;
}
