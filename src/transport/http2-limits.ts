/**
 * Calls that one connection may have open at once: twice as many as it has at the peak when it is the only one. More could
 * only wait; a client that heeds this holds them back, and of one that does not nghttp2 turns them away for a tenth of what
 * it costs us. One read of a socket brings no more streams than this, so it also bounds the turns of the event loop.
 */
export const maxConcurrentStreams = 128;
/** Streams that all connections of a front end together may have open. */
export const maxOpenStreams = 8_000;
/** Connections of a front end. */
export const maxConnections = 4_000;
/**
 * Connections that wait to be taken. With more, the system drops what asks for one, and the client asks again after a second
 * or three: so all that were shed must be able to come back at once. The system's own limit (`somaxconn`) holds as well.
 */
export const maxBacklog = 4_096;

/**
 * What one connection may do before Node or nghttp2 closes it. Resets stand at nghttp2's own limits (1,000 at once, 33 a
 * second), which defend against clients that open and reset streams without end (CVE-2023-44487).
 */
export const http2Limits = {
  /** Streams turned away one after the other because too many are open: 100 otherwise. */
  maxSessionRejectedStreams: 1_000,
};
