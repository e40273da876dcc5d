/** An event as it is published. */
export interface EventRecord {
  /** Records of one key are read in the order in which they were published. */
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: Uint8Array;
}

/** The `code` of the error when a broker takes no batch of that size, and perhaps a smaller one. */
export const batchTooLarge = "MESSAGE_TOO_LARGE";

/** Where events are published to. */
export interface Publisher {
  /**
   * Resolves when all of them are stored for good, and throws when that is not certain: some, or all, may be stored then, or be stored a moment
   * later. Ends within `limitMs`, and sends nothing after that. One call at a time.
   */
  publish(records: readonly EventRecord[], limitMs: number): Promise<void>;
  close(): Promise<void>;
}
