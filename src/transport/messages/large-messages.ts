/** Of each message this much does not count: most have no more. */
const freeBytes = 4 * 1024;
const maxOccupiedBytes = 128 * 1024 * 1024;
/** Of one connection, so that it is left to others as well. A proxy brings many callers on one. */
const connectionShare = 0.5;

/**
 * What large messages occupy in both front ends together: the bytes that have arrived, and what has been inflated of them.
 * Clients may have thousands of calls open, and each could bring as much as the largest method accepts: so it is counted,
 * and a call that it gets too much with is shed.
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

export interface LargeMessage {
  /** False: there is no memory for these bytes, or nobody waits for what would be made of them. */
  add(bytes: number): boolean;
  close(): void;
}
