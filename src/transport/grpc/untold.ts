import { constants } from "node:http2";
import { Refusal } from "../../domain/refusal.js";
import { failureOf } from "../error-table.js";
import type { ArrivingStream } from "../overload/arriving-stream.js";

/**
 * Ends a call whose caller could not be told how it went, past the library that could not tell it: with INTERNAL, or with a reset when an
 * answer has begun. That is a fault of this call and of no other, so nothing is thrown.
 */
export function endUntold(arriving: Pick<ArrivingStream, "stream" | "isAnswered" | "refuse">): void {
  try {
    if (arriving.isAnswered) arriving.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    else arriving.refuse(failureOf(new Refusal("INTERNAL")));
  } catch {
    arriving.stream.destroy();
  }
}
