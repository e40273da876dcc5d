import { LRUCache } from "lru-cache";

/**
 * Keeps the `max` entries that were used last, each for `ttl` milliseconds at most. Takes memory for what it has: with an option `max` an
 * LRUCache makes room for all that it may ever have, which takes 14 ms for 100,000.
 */
export class BoundedCache<V extends {}> extends LRUCache<string, V> {
  constructor(max: number, options: { ttl?: number } = {}) {
    super({ ...options, maxSize: max, sizeCalculation: () => 1 });
  }
}
