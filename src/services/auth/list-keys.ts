import { create } from "@bufbuild/protobuf";
import { type ListKeysRequest, ListKeysResponseSchema } from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { KeyStore } from "../../storage/ports/keys.js";
import { nextPageToken, readPage } from "../page-token.js";
import { keyMessage } from "./key-message.js";

export function listKeys(store: Pick<KeyStore, "list">) {
  return async (request: ListKeysRequest, context: CallContext) => {
    const parameters = ["ListKeys", request.caller];
    const page = readPage(request, parameters, "number");
    if (page instanceof Refusal) return page;
    const { rows, next } = await store.list(request.caller, page, context.deadlineMs);
    return create(ListKeysResponseSchema, {
      keys: rows.map(keyMessage),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}
