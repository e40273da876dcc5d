import type * as http2 from "node:http2";
import type { Socket } from "node:net";
import type { Permit } from "../overload/admission.js";
import type { ArrivingStream } from "../overload/arriving-stream.js";
import type { Arriving } from "./connect-message.js";
import type { NodeRequest, NodeResponse } from "./node-request.js";

/** A call that was let in, before the pipeline has it. */
export interface Admitted {
  readonly permit: Permit;
  /** From when the caller has asked, not from when it was let in. In ms since 1970; Infinity: it did not say. */
  readonly deadlineMs: number;
  /** The pipeline has it, and gives it back. */
  isHandedOn: boolean;
  readonly connection: http2.Http2Session | Socket | undefined;
  readonly arriving: Pick<ArrivingStream, "abandon" | "arrived" | "onLate">;
}

/** An HTTP request that was let in. */
export interface AdmittedRequest {
  readonly request: NodeRequest;
  readonly response: NodeResponse;
  readonly admitted: Admitted;
  /** The place where its message arrives. */
  readonly place: Arriving;
}
