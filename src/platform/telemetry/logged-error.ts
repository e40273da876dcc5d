import { stdSerializers } from "pino";

/**
 * An error as it stands in the log. What a library says of a failed statement has its text and all values in it, and what Postgres
 * says of a row has the row: these are long, and somebody's. The store's own message, code, table and constraint are left.
 */
export function loggedError(error: unknown): unknown {
  if (!(error instanceof Error)) return stdSerializers.err(error as Error);
  const { params: _, query: __, detail: ___, where: ____, ...logged } = stdSerializers.err(causeOf(error));
  return logged;
}

/** Of an error that only says which statement has failed. */
function causeOf(error: Error): Error {
  return "query" in error && error.cause instanceof Error ? causeOf(error.cause) : error;
}
