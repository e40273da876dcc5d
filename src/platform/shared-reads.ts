/**
 * Reads that all share who ask at the same moment. What a caller gets was read after it had asked: at most one read of a
 * key is under way, and all who come meanwhile share the next.
 */
export class SharedReads<Key, Value> {
  private readonly current = new Map<Key, Promise<unknown>>();
  private readonly next = new Map<Key, Promise<Value>>();

  constructor(private readonly readNow: (key: Key) => Promise<Value>) {}

  read(key: Key): Promise<Value> {
    const next = this.next.get(key);
    if (next) return next;
    const read = (this.current.get(key) ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.next.delete(key);
        const reading = this.readNow(key).finally(() => {
          if (this.current.get(key) === reading) this.current.delete(key);
        });
        this.current.set(key, reading);
        return reading;
      });
    this.next.set(key, read);
    return read;
  }
}
