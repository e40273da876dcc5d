/** Of each message this much does not count: most have no more. */
const freeBytes = 4 * 1024;
const maxHeldBytes = 128 * 1024 * 1024;
/** Of one connection, so that it is left to others as well. A proxy brings many callers on one. */
const connectionShare = 0.5;

/**
 * What both front ends together hold of large messages: the bytes that have arrived, and what has been inflated of them.
 * Clients may have thousands of calls open, and each could bring as much as the largest method accepts: so it is counted,
 * and a call that it gets too much with is shed.
 */
export class LargeMessages {
  private heldBytes = 0;
  private readonly heldOf = new WeakMap<object, { bytes: number }>();

  constructor(private readonly maxBytes = maxHeldBytes) {}

  /** One call's message. The connection is whatever object stands for it. */
  open(connection: object): LargeMessage {
    let addedBytes = 0;
    let ownBytes = 0;
    let held: { bytes: number } | undefined;
    return {
      add: (bytes) => {
        addedBytes += bytes;
        const moreBytes = Math.max(0, addedBytes - freeBytes) - ownBytes;
        if (moreBytes <= 0) return true;
        held ??= this.of(connection);
        if (this.heldBytes + moreBytes > this.maxBytes) return false;
        if (held.bytes + moreBytes > this.maxBytes * connectionShare) return false;
        ownBytes += moreBytes;
        held.bytes += moreBytes;
        this.heldBytes += moreBytes;
        return true;
      },
      close: () => {
        this.heldBytes -= ownBytes;
        if (held) held.bytes -= ownBytes;
        ownBytes = 0;
      },
    };
  }

  private of(connection: object): { bytes: number } {
    let held = this.heldOf.get(connection);
    if (!held) {
      held = { bytes: 0 };
      this.heldOf.set(connection, held);
    }
    return held;
  }
}

export interface LargeMessage {
  /** False: there is no memory for these bytes. */
  add(bytes: number): boolean;
  close(): void;
}
