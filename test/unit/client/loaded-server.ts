import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { onTestFinished } from "vitest";
import {
  CatalogService,
  IssuanceService,
  type IssueCouponRequest,
  IssueCouponResponseSchema,
  ListCouponsResponseSchema,
} from "../../../clients/typescript/src/contract.js";
import { type ClientOptions, createCouponClient } from "../../../clients/typescript/src/node.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";

/** One try as the server saw it. */
export interface Try {
  readonly requestId: string;
  readonly leftMs: number | undefined;
  readonly authorization: string | null;
}

export type Answer = "OK" | ConnectError | "never";

export function refused(reason: string, code: Code, retryAfterMs?: number, pushback?: string): ConnectError {
  return new ConnectError(reason, code, pushback === undefined ? {} : { "grpc-retry-pushback-ms": pushback }, [
    { desc: ErrorInfoSchema, value: { reason, domain: "coupon.v1", metadata: {} } },
    ...(retryAfterMs === undefined
      ? []
      : [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryAfterMs) } }]),
  ]);
}

export const overloaded = (retryAfterMs = 1) => refused("OVERLOADED", Code.Unavailable, retryAfterMs);

/** Plays a service under load: it answers one after the other what it is told to, the last one for ever. */
export async function loadedServer(answers: readonly Answer[], options: Partial<ClientOptions> = {}) {
  const tries: Try[] = [];
  const answer = async (requestId: string, context: HandlerContext) => {
    const said = answers[Math.min(tries.length, answers.length - 1)] as Answer;
    const timeout = context.requestHeader.get("grpc-timeout");
    const authorization = context.requestHeader.get("authorization");
    tries.push({ requestId, leftMs: timeout === null ? undefined : Number.parseInt(timeout, 10), authorization });
    if (said === "never") {
      await new Promise((_, reject) => context.signal.addEventListener("abort", () => reject(context.signal.reason)));
    }
    if (said instanceof ConnectError) throw said;
  };
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => {
        router.service(IssuanceService, {
          async issueCoupon(request: IssueCouponRequest, context) {
            await answer(request.requestId, context);
            return create(IssueCouponResponseSchema, {});
          },
        });
        router.service(CatalogService, {
          async listCoupons(_, context) {
            await answer("", context);
            return create(ListCouponsResponseSchema, {});
          },
        });
      },
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = createCouponClient({ baseUrl, ...options });
  onTestFinished(async () => {
    client.close();
    await new Promise((resolve) => server.close(resolve));
  });
  return { client, tries, baseUrl };
}
