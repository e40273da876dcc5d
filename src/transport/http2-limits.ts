/**
 * Calls that a new connection may have open at once: HTTP/2 recommends no fewer. Of a client that does not heed this, nghttp2
 * turns the others away for a tenth of what they would cost us; and one read of a socket brings no more streams than this.
 */
export const newConnectionStreams = 100;
/**
 * The same once it has brought some calls to their end, which whoever means harm does not. Fewer would be held back by clients
 * under overload, where they grow old unseen: with 128 of them refusals came after 0.7 s instead of 0.3.
 */
export const provenConnectionStreams = 512;
/** Calls that have come to their end, by which a connection is proven. */
export const provingCalls = 16;
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
