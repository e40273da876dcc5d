import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { runInProcess } from "../bench/load/run-in-process.js";
import { Api } from "../bench/support/api.js";
import { CatalogService } from "../gen/coupon/v1/catalog_service_pb.js";
import type { CrowdJob, CrowdReport } from "./crowd.js";
import type { Acknowledgement } from "./ledger.js";
import type { DemoOptions } from "./options.js";
import type { Screen } from "./screen.js";

const daySeconds = 86_400;
const stockPollMs = 250;

export interface Sale {
  readonly couponId: string;
  readonly crowd: CrowdReport;
  readonly acknowledgements: readonly Acknowledgement[];
  /** Who was left without a clear answer to one of his requests. */
  readonly unclearUsers: ReadonlySet<number>;
}

export async function createEvent(api: Api, name: string, quantity: number): Promise<string> {
  const { coupon } = await api.call(CatalogService.method.createCoupon, {
    coupon: {
      name,
      description: "The first to ask ride free of charge.",
      discount: { kind: { case: "percentageBasisPoints", value: 10_000 } },
      quantity: BigInt(quantity),
      maxPerUser: 1,
      startTime: timestampFromMs(Date.now()),
      expireTime: timestampFromMs(Date.now() + daySeconds * 1_000),
      validityAfterIssue: { seconds: BigInt(7 * daySeconds), nanos: 0 },
    },
    requestId: crypto.randomUUID(),
  });
  return coupon!.id;
}

/** Lets the crowd loose from a process of its own and shows how it goes. */
export async function runSale(
  targets: readonly string[],
  coupons: Pick<CrowdJob, "couponId" | "rehearsalCouponId">,
  options: DemoOptions,
  screen: Screen,
  signal: AbortSignal,
  onProgress: (share: number) => void = () => {},
): Promise<Sale> {
  const { seed, requests, requestsPerSecond, quantity } = options;
  const { couponId } = coupons;
  const acknowledgements: Acknowledgement[] = [];
  const unclearUsers = new Set<number>();
  const take = (report: CrowdReport) => {
    acknowledgements.push(...report.acknowledgements);
    for (const user of report.unclearUsers) unclearUsers.add(user);
  };
  const stock = watchStock(targets, couponId, quantity);
  try {
    const show = (report: CrowdReport) => {
      take(report);
      screen.progress(report, stock.remaining());
      onProgress(report.completed / requests);
    };
    const job: CrowdJob = { targets, ...coupons, plan: { seed, requests, requestsPerSecond } };
    const entry = new URL("./crowd-process.js", import.meta.url);
    const crowd: CrowdReport = await runInProcess(entry, job, { onProgress: show, signal });
    take(crowd);
    await stock.refresh();
    screen.progress(crowd, stock.remaining(), true);
    return { couponId, crowd, acknowledgements, unclearUsers };
  } finally {
    stock.stop();
  }
}

/** What the API says is left, asked for a few times a second. */
function watchStock(targets: readonly string[], couponId: string, quantity: number) {
  const api = new Api(targets);
  let remaining = quantity;
  let asking = false;
  const refresh = async () => {
    // A replica may be away on purpose: what was last known stays on the screen.
    const answer = await api.call(CatalogService.method.getCoupon, { couponId }).catch(() => undefined);
    remaining = Number(answer?.coupon?.remainingCount ?? remaining);
  };
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    refresh().finally(() => {
      asking = false;
    });
  }, stockPollMs);
  return {
    remaining: () => remaining,
    refresh,
    stop() {
      clearInterval(timer);
      api.close();
    },
  };
}
