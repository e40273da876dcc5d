/**
 * Calls that one connection may have open at once: more than MAX_IN_FLIGHT lets a replica work on by default, so that
 * callers are told that it is overloaded. At this limit itself, Node refuses calls with codes that do not say so.
 */
export const maxConcurrentStreams = 10_000;

/**
 * What one connection may do before Node or nghttp2 closes it with INTERNAL_ERROR, and every call on it fails with that.
 * Their own limits are passed by honest callers whose deadlines run out while the service is overloaded, many of them on
 * one connection: each resets its stream, and the next calls come before Node has done away with the old ones. What such
 * a call costs is bounded by MAX_IN_FLIGHT, whether it is reset or not.
 */
export const http2Limits = {
  /** Streams that may be reset in one go, and per second: 1,000 and 33 otherwise. Known to Node 22.10 and newer. */
  streamResetBurst: 20_000,
  streamResetRate: 10_000,
  /** Streams turned away one after the other because too many are open: 100 otherwise. */
  maxSessionRejectedStreams: 100_000,
};
