/**
 * Calls that one connection may have open at once. Fewer would be held back by clients under overload, where they grow old
 * unseen: with 128 of them refusals came after 0.7 s instead of 0.3. Of a client that does not heed this, nghttp2 turns the
 * others away for a tenth of what it costs us; and one read of a socket brings no more streams than this.
 */
export const maxConcurrentStreams = 512;
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
