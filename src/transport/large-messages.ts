/** What gzip and deflate can make of one byte at most. */
const maxUnpackedRatio = 1_032;
/** Of each message this much does not count: most have no more. */
const freeBytes = 4 * 1024;
const maxHeldBytes = 128 * 1024 * 1024;

/**
 * What both front ends together hold of large messages, those that are still arriving among them. Clients may have
 * thousands of calls open, and each could bring as much as the largest method accepts: so it is counted, and a call that
 * it gets too much with is turned away.
 */
export class LargeMessages {
  private heldBytes = 0;

  constructor(private readonly maxBytes = maxHeldBytes) {}

  /** One call's message, of which at most `limitBytes` are kept. What is compressed counts as what it may become. */
  open(compressed: boolean, limitBytes: number): LargeMessage {
    let arrivedBytes = 0;
    let ownBytes = 0;
    return {
      add: (bytes) => {
        arrivedBytes += bytes;
        const most = Math.min(limitBytes, arrivedBytes * (compressed ? maxUnpackedRatio : 1));
        const moreBytes = Math.max(0, most - freeBytes) - ownBytes;
        if (moreBytes > 0 && this.heldBytes + moreBytes > this.maxBytes) return false;
        ownBytes += moreBytes;
        this.heldBytes += moreBytes;
        return true;
      },
      close: () => {
        this.heldBytes -= ownBytes;
        ownBytes = 0;
      },
    };
  }
}

export interface LargeMessage {
  /** False: there is no room for these bytes. */
  add(bytes: number): boolean;
  close(): void;
}
