import { LRUCache } from "lru-cache";

/**
 * Keeps the `max` entries that were used last, each for `ttl` milliseconds at most; with `weightOf` as many of them as weigh `max`
 * together. Takes memory for what it has: with an option `max` an LRUCache makes room for all that it may ever have, which takes 14 ms
 * for 100,000.
 */
export class BoundedCache<V extends {}> extends LRUCache<string, V> {
  constructor(max: number, { weightOf = () => 1, ...options }: { ttl?: number; weightOf?: (value: V) => number } = {}) {
    super({ ...options, maxSize: max, sizeCalculation: weightOf });
  }
}
