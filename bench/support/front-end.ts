import { create } from "@bufbuild/protobuf";
import { IssuanceService, IssueCouponResponseSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { off } from "../../src/auth/authenticator.js";
import { createLogger } from "../../src/platform/logger.js";
import { Metrics } from "../../src/platform/metrics.js";
import { newId } from "../../src/platform/new-id.js";
import { issuedMessage } from "../../src/services/message.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { maxConnections } from "../../src/transport/http2-limits.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import { LoadShedder } from "../../src/transport/overload/load-shedder.js";
import { Pipeline } from "../../src/transport/pipeline.js";
import { routeOf } from "../../src/transport/routes.js";
import { messageValidator } from "../../src/transport/validator.js";

/**
 * The service's gRPC front end with nothing behind it: IssueCoupon as it is served, through the same server, pipeline
 * and messages, by a handler that does nothing. What it can serve at most is what issuing is compared with.
 */
const { log } = createLogger(process.env.LOG_LEVEL ?? "warn");
const metrics = new Metrics();
const pipeline = new Pipeline({
  authenticator: off,
  log,
  metrics,
  validator: messageValidator(),
  defaultDeadlineMs: 5_000,
  maxDeadlineMs: 30_000,
  isServing: () => true,
});
const neverUsed = {
  validUntil: null,
  maxUses: 1,
  useCount: 0,
  placeCount: 0,
  lockedUntil: null,
  claimUntil: null,
  releasedAt: null,
  code: null,
  discount: null,
  labels: null,
};
const method = IssuanceService.method.issueCoupon;
const invoke = pipeline.mount(method, async ({ target, userId }) => {
  const issuedAt = new Date();
  const response = create(IssueCouponResponseSchema);
  const userCoupon = { id: newId(Date.now()), couponId: String(target.value), userId, issuedAt, ...neverUsed };
  response.userCoupon = issuedMessage(userCoupon, issuedAt, "READY");
  return response;
});
const loadShedder = new LoadShedder({ maxAtWork: 4_000, maxConnections, isServing: () => true, metrics, log });
const server = new GrpcServer(
  [routeOf(method, invoke)],
  new LargeMessages(),
  new ArrivalDeadlines(),
  loadShedder,
  () => {},
);
const grpcPort = await server.listen("127.0.0.1", 0);
process.stdout.write(`${JSON.stringify({ event: "serving", grpcPort, httpPort: 0, pid: process.pid })}\n`);
process.stdin.resume().once("close", () => process.exit());
process.once("SIGTERM", () => process.exit());
