import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { type Reason, Refusal, requestIdReused } from "../../src/domain/refusal.js";
import { errorDomain, errorTable, type Failure, failureOf, internalFailure } from "../../src/transport/error-table.js";
import { restFailure } from "../../src/transport/rest/rest-answer.js";
import { codeNameOf } from "./refusals.js";
import type { Json } from "./rules.js";
import { refTo, type Schemas } from "./schemas.js";

/** What errors may carry, the first always. */
export const detailSchemas = [
  ErrorInfoSchema,
  BadRequestSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
  RequestInfoSchema,
] as const;

const typeUrl = (typeName: string) => `type.googleapis.com/${typeName}`;

/** Both forms of an error: that of REST is `google.rpc.Status`, that of Connect has the details as bytes. */
export function addErrorSchemas(schemas: Schemas): void {
  const details = detailSchemas.map((desc) => {
    const name = `${desc.typeName}.Detail`;
    return schemas.add(name, {
      allOf: [
        schemas.message(desc),
        { type: "object", properties: { "@type": { const: typeUrl(desc.typeName) } }, required: ["@type"] },
      ],
    });
  });
  schemas.add("google.rpc.Status", {
    type: "object",
    description: "How a call ended that was refused.",
    properties: {
      code: { type: "integer", format: "int32", description: "The status code of gRPC, from 1 to 16." },
      message: { type: "string", description: "For people; may change." },
      details: {
        type: "array",
        description:
          "The first is a google.rpc.ErrorInfo: programs switch on its `reason`. BadRequest names the fields that are wrong, PreconditionFailure every reason against each of several coupons, RetryInfo says when the same request may succeed.",
        items: { anyOf: details },
      },
    },
    required: ["code", "message"],
  });
  schemas.add("connect.Error", {
    type: "object",
    description: "How a call ended that was refused, in the Connect protocol.",
    properties: {
      code: { type: "string", enum: connectCodes(), description: "The status code of gRPC, as a word." },
      message: { type: "string", description: "For people; may change." },
      details: {
        type: "array",
        description: "The same details as in google.rpc.Status.",
        items: {
          type: "object",
          properties: {
            type: { type: "string", description: "The name of the message: `google.rpc.ErrorInfo`." },
            value: { type: "string", contentEncoding: "base64", description: "The message as bytes." },
            debug: { description: "The message as JSON, where there is one. Not for programs." },
          },
          required: ["type", "value"],
        },
      },
    },
    required: ["code"],
  });
}

function connectCodes(): string[] {
  const names = [...new Set((Object.keys(errorTable) as Reason[]).map(codeNameOf))];
  return [...names, "UNIMPLEMENTED", "CANCELED", "UNKNOWN", "OUT_OF_RANGE", "DATA_LOSS"]
    .map((name) => name.toLowerCase())
    .sort();
}

/** What the service sends for a reason. */
function failure(reason: Reason): Failure {
  switch (reason) {
    case "INTERNAL":
      return internalFailure("0b5f4b5e-6f0e-4f0b-9a55-0d6c3a3d1f10");
    case "INVALID_FIELD":
      return failureOf(
        new Refusal(reason, [{ field: "user_id", description: "value length must be at least 1 characters" }]),
      );
    case "REQUEST_ID_REUSED":
      return failureOf(requestIdReused());
    default: {
      const { retryAfterMs } = errorTable[reason];
      // Said by name, or it would be another one each time.
      return failureOf(
        new Refusal(reason, [], undefined, retryAfterMs === undefined ? { facts: {} } : { retryAfterMs }),
      );
    }
  }
}

export function statusExample(reason: Reason): Json {
  return JSON.parse(restFailure(failure(reason)).body);
}

export function connectExample(reason: Reason): Json {
  const { message, packed } = failure(reason);
  const details = packed.map(({ typeName, bytes }) => ({
    type: typeName,
    value: Buffer.from(bytes).toString("base64").replace(/=+$/, ""),
  }));
  return { code: codeNameOf(reason).toLowerCase(), message, details };
}

export const errorInfo = `a google.rpc.ErrorInfo with the domain "${errorDomain}"`;
export const statusRef = refTo("google.rpc.Status");
export const connectErrorRef = refTo("connect.Error");
