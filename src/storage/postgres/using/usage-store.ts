import { type Choice, noStandingUses, type Usage } from "../../../domain/usage.js";
import type { UserCoupon } from "../../../domain/user-coupon.js";
import { type DeadlineMs, noDeadlineMs, type Page, type Rows } from "../../ports/page.js";
import type {
  CancelRequest,
  CancelResult,
  LockRequest,
  LockResult,
  OrderChoice,
  ReadChoice,
  UsageFilter,
  UsageName,
  UsageStore,
  UseRequest,
  UseResult,
} from "../../ports/usages.js";
import { CouponCache } from "../coupons/coupon-cache.js";
import { FewAtOnce } from "../coupons/few-at-once.js";
import { couponIdsOf, lockingCoupons, type OfCoupon, patiently } from "../coupons/held-coupons.js";
import type { Connection, Database } from "../database.js";
import { guarded } from "../errors.js";
import { patienceOf } from "../patience.js";
import { TurnBatch } from "../turn-batch.js";
import { userCouponColumns } from "../user-coupons/user-coupon-store.js";
import { findByCodes } from "./find-by-codes.js";
import { OrdersOf, type StandingRow } from "./standing-uses.js";
import {
  couponsOfUsages,
  listUsages,
  maxRequests,
  type UsageRow,
  usagesOf,
  usagesOfRequests,
  usagesOfUserCoupons,
} from "./usage-page.js";
import { type CancelRow, type LockRow, toCancelResult, toUseResult, type UseRow } from "./usage-rows.js";

/** How often a batch is tried while another transaction at the same moment uses the request id of one of its rows. */
const conflictAttempts = 3;
/** Of what is no batch and of one coupon: one that has the lock, and one that gets it next. */
const mostAtOnce = 2;

interface ChosenRow extends UserCoupon {
  readonly lockVersion: number;
  readonly lockToken: string | null;
  readonly revision: number;
  readonly couponUpdatedAt: Date;
  readonly exhaustedAt: Date | null;
  readonly couponPlaceCount: number;
  readonly now: Date;
  /** In the first row. */
  readonly standing: readonly StandingRow[] | null;
}

export class PostgresUsageStore implements UsageStore {
  private readonly coupons = new CouponCache();
  private readonly fewAtOnce = new FewAtOnce(mostAtOnce);
  private readonly ofRequests = new TurnBatch<string, Usage[]>({
    maxItems: maxRequests,
    run: (requestIds) =>
      this.database.reads.run(noDeadlineMs, (connection) => usagesOfRequests(connection, requestIds)),
  });

  private readonly couponsOf = new TurnBatch<UsageName, string | undefined>({
    maxItems: maxRequests,
    run: (named) => this.database.reads.run(noDeadlineMs, (connection) => couponsOfUsages(connection, named)),
  });

  constructor(private readonly database: Database) {}

  /** One by one by their index: so the plan is the same whatever is asked for, and is made once. */
  async readChosen(choices: readonly OrderChoice[]): Promise<ReadChoice[]> {
    return await this.database.reads.run(noDeadlineMs, async ({ sql }) => {
      const orders = new OrdersOf(choices);
      const ids = choices.map(({ userCouponId }) => userCouponId);
      const rows = await sql<ChosenRow[]>`
        SELECT ${userCouponColumns(sql)}, u.lock_version, u.lock_token, u.revision, u.coupon_updated_at,
          u.exhausted_at, u.coupon_place_count, clock.now,
          CASE WHEN row_number() OVER () = 1 THEN ${orders.query(sql)} END AS standing
        FROM (SELECT coupon_clock() AS now OFFSET 0) clock
        LEFT JOIN (
          SELECT u.*, c.revision, c.updated_at AS coupon_updated_at, c.exhausted_at, c.place_count AS coupon_place_count
          FROM json_array_elements_text(${JSON.stringify(ids)}::text::json) AS asked (id)
          CROSS JOIN LATERAL (SELECT * FROM user_coupons WHERE id = asked.id::uuid OFFSET 0) u
          CROSS JOIN LATERAL (SELECT * FROM coupons WHERE id = u.coupon_id OFFSET 0) c
          WHERE u.deleted_at IS NULL
        ) u ON true`;
      const standing = orders.read(rows[0]?.standing ?? null);
      const now = rows[0]?.now as Date;
      const byId = new Map(rows.map((row) => [row.id, row]));
      const coupons = await this.coupons.get(
        sql,
        rows
          .filter((row) => row.id)
          .map(({ couponId: id, revision, couponUpdatedAt: updatedAt }) => ({ id, revision, updatedAt })),
      );
      return choices.map(({ userId, userCouponId }, index) => {
        const row = byId.get(userCouponId);
        const dated = { now, standing: standing[index] ?? noStandingUses };
        if (row?.userId !== userId) return { value: null, ...dated };
        const definition = coupons.get(row.couponId);
        if (!definition) throw new Error(`coupon ${row.couponId} is gone`);
        const coupon = { ...definition, exhaustedAt: row.exhaustedAt, placeCount: row.couponPlaceCount };
        const { lockVersion, lockToken } = row;
        return { value: { userCoupon: row, coupon, lockVersion, lockToken }, ...dated };
      });
    });
  }

  async useBatch(
    requests: readonly UseRequest[],
    options: { again: boolean; together: boolean },
  ): Promise<UseResult[]> {
    const use = () => this.useOnce(requests, options);
    const rows = await this.lockingCoupons(requests, options.together, use);
    // Only those again: of what is decided, a later answer does not tell that it took a place, nor that this was the last one.
    for (let attempt = 2; attempt <= conflictAttempts; attempt++) {
      const open = [...rows.keys()].filter((index) => rows[index]?.outcome === "CONFLICT");
      if (open.length === 0) break;
      const asked = open.map((index) => requests[index] as UseRequest);
      const next = await this.useOnce(asked, { ...options, again: true });
      for (const [at, index] of open.entries()) rows[index] = next[at] as UseRow;
    }
    return rows.map((row, index) => toUseResult(row, requests[index] as UseRequest));
  }

  async lockBatch(requests: readonly LockRequest[], { together }: { together: boolean }): Promise<LockResult[]> {
    const json = requests.map((request) => ({
      user_coupon_id: request.userCouponId,
      coupon_id: request.couponId,
      user_id: request.userId,
      lock_version: request.lockVersion,
      token: request.token,
      order_id: request.orderId,
      order_amount: request.orderAmount?.minorUnits ?? null,
      currency_code: request.orderAmount?.currencyCode ?? null,
    }));
    const ids = couponIdsOf(requests);
    const lock = ({ sql }: Connection) =>
      sql<LockRow[]>`SELECT * FROM lock_user_coupons(${ids}::uuid[], ${JSON.stringify(json)}::text::json, ${together})`;
    const rows = await this.lockingCoupons(requests, together, () => this.database.commits.run(noDeadlineMs, lock));
    return rows.map(({ outcome, version, untilMs }, index): LockResult => {
      if (outcome === "CONSENT") return { outcome: "CONSENT" };
      if (outcome !== "GRANTED") return { outcome: "REFUSED", reason: outcome };
      const { userCouponId } = requests[index] as LockRequest;
      return { outcome: "GRANTED", lock: { userCouponId, version, until: new Date(untilMs) } };
    });
  }

  async findByCodes(
    userId: string,
    choices: readonly (Choice & { readonly code: string })[],
    requestId: string,
    deadlineMs: DeadlineMs,
  ): Promise<string[][]> {
    return await this.database.reads.run(deadlineMs, (connection) =>
      findByCodes(connection, userId, choices, requestId),
    );
  }

  async unlock(userId: string, choices: readonly Choice[], deadlineMs: DeadlineMs): Promise<string[] | null> {
    const json = choices.map(({ userCouponId, lockVersion }) => ({
      user_coupon_id: userCouponId,
      lock_version: lockVersion,
    }));
    const unlock = ({ sql }: Connection) =>
      sql<{ id: string; unlocked: boolean }[]>`
        SELECT * FROM unlock_user_coupons(${userId}, ${JSON.stringify(json)}::text::json)`;
    const named = choices.map(async ({ userCouponId }) => ({
      couponId: await this.couponOf({ userId, userCouponId }, deadlineMs),
    }));
    const rows = await this.lockingCoupons(await Promise.all(named), true, () =>
      this.database.commits.run(deadlineMs, unlock),
    );
    return rows.length < choices.length ? null : rows.filter((row) => row.unlocked).map((row) => row.id);
  }

  couponOf(named: UsageName, deadlineMs: DeadlineMs): Promise<string | undefined> {
    return guarded(deadlineMs, () => this.couponsOf.add(named));
  }

  async cancelBatch(requests: readonly CancelRequest[], again: boolean): Promise<CancelResult[]> {
    let rows = await lockingCoupons(this.database, requests, () => this.cancelOnce(requests, again));
    for (let attempt = 2; attempt <= conflictAttempts && rows.some((row) => row.outcome === "CONFLICT"); attempt++) {
      rows = await this.cancelOnce(requests, true);
    }
    return rows.map(toCancelResult);
  }

  async get(userId: string, usageId: string, deadlineMs: DeadlineMs): Promise<Usage | null> {
    const [usage] = await this.database.reads.run(deadlineMs, async ({ sql }) =>
      usagesOf(sql, await sql<UsageRow[]>`SELECT * FROM usages WHERE id = ${usageId} AND user_id = ${userId}`),
    );
    return usage ?? null;
  }

  list(filter: UsageFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<Usage>> {
    return this.database.reads.run(deadlineMs, (connection) => listUsages(connection, filter, page));
  }

  ofRequest(requestId: string, deadlineMs: DeadlineMs): Promise<Usage[]> {
    return guarded(deadlineMs, () => this.ofRequests.add(requestId));
  }

  ofUserCoupons(
    userId: string,
    userCouponIds: readonly string[],
    limit: number,
    deadlineMs: DeadlineMs,
  ): Promise<Usage[]> {
    return this.database.reads.run(deadlineMs, (connection) =>
      usagesOfUserCoupons(connection, userId, userCouponIds, limit),
    );
  }

  async findUsed(usageIds: readonly string[]): Promise<Set<string>> {
    const rows = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<{ id: string }[]>`SELECT id FROM usages WHERE id = ANY (${[...usageIds]}::uuid[])`,
    );
    return new Set(rows.map(({ id }) => id));
  }

  private lockingCoupons<T>(requests: readonly OfCoupon[], together: boolean, commit: () => Promise<T>): Promise<T> {
    if (!together) return lockingCoupons(this.database, requests, commit);
    return this.fewAtOnce.run(couponIdsOf(requests), () => patiently(commit));
  }

  private cancelOnce(requests: readonly CancelRequest[], again: boolean): Promise<CancelRow[]> {
    const json = requests.map(({ userId, usageId, userCouponId, request }) => ({
      usage_id: usageId,
      user_coupon_id: userCouponId,
      user_id: userId,
      request_id: request.requestId,
      input_hash: Buffer.from(request.inputHash).toString("hex"),
    }));
    return this.database.commits.run(
      noDeadlineMs,
      ({ sql }) => sql<CancelRow[]>`SELECT * FROM cancel_usages(${JSON.stringify(json)}::text::json, ${again})`,
    );
  }

  private useOnce(requests: readonly UseRequest[], { again, together }: { again: boolean; together: boolean }) {
    const json = (patience: readonly (number | null)[]) =>
      requests.map((request, index) => ({
        id: request.usageId,
        user_coupon_id: request.userCouponId,
        coupon_id: request.couponId,
        user_id: request.userId,
        lock_version: request.lockVersion,
        revision: request.revision,
        updated_ms: request.updatedAt?.getTime(),
        product_id: request.productId,
        order_id: request.orderId,
        currency_code: request.orderAmount.currencyCode,
        order_amount: request.orderAmount.minorUnits,
        discount_amount: request.discountAmount,
        discounted_before: request.discountedBefore,
        order_mark: request.orderMark,
        request_id: request.requestId || null,
        item: request.item,
        patience_ms: patience[index],
        // Left out where there are none.
        labels: request.labels ?? undefined,
      }));
    return this.database.commits.run(
      noDeadlineMs,
      ({ sql }) =>
        sql<
          UseRow[]
        >`SELECT * FROM use_user_coupons(${couponIdsOf(requests)}::uuid[], ${JSON.stringify(json(patienceOf(requests)))}::text::json, ${together}, ${again})`,
    );
  }
}
