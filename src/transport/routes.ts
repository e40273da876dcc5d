import type { DescMethodUnary } from "@bufbuild/protobuf";
import type { Invoke } from "./pipeline.js";
import "./text-encoding.js";

/** The largest message of an ordinary call. */
export const maxMessageBytes = 64 * 1024;

/** One RPC, ready to be served by any front end. */
export interface Route {
  readonly method: DescMethodUnary;
  readonly invoke: Invoke;
}
