import { file_coupon_v1_error_reason } from "../../../gen/coupon/v1/error_reason_pb.js";
import { file_google_rpc_error_details } from "../../../gen/google/rpc/error_details_pb.js";
import { Health as HealthService } from "../../../gen/grpc/health/v1/health_pb.js";
import { noPages } from "../../transport/connect/pages.js";
import { staticPages } from "../../transport/connect/static-files.js";
import type { Route } from "../../transport/routes.js";
import { filesOf, readContract } from "../../transport/standard/contract-files.js";
import { Health } from "../../transport/standard/health.js";
import { Reflection } from "../../transport/standard/reflection.js";
import { StandardCalls } from "../../transport/standard/standard-method.js";

/** What both ports have beside the contract's own methods: gRPC's services, and the page that shows the contract. */
export function openContract(routes: readonly Route[], isShown: boolean, onError: (error: unknown) => void) {
  const services = [...new Set(routes.map(({ method }) => method.parent))];
  const health = new Health(services.map(({ typeName }) => typeName));
  const calls = new StandardCalls(onError);
  if (!isShown) return { health, standard: { methods: health.methods, calls }, contract: noPages };
  const bytes = readContract();
  const others = [file_coupon_v1_error_reason, file_google_rpc_error_details];
  const reflection = new Reflection([...services, HealthService], others, filesOf(bytes));
  const methods = [...health.methods, ...reflection.methods];
  // Tools make clients of it.
  const contract = staticPages(new Map([["/coupon.binpb", { type: "application/octet-stream", bytes }]]));
  return { health, standard: { methods, calls }, contract };
}
