import { codeKey, codeKeys, type FoundCode } from "../../../domain/code.js";
import type { CouponType } from "../../../domain/coupon.js";
import { BoundedCache } from "../../../platform/bounded-cache.js";
import type { EarlierIssue, TargetStore } from "../../ports/issues.js";
import { type DeadlineMs, noDeadlineMs } from "../../ports/page.js";
import type { Database } from "../database.js";
import { guarded } from "../errors.js";
import { TurnBatch } from "../turn-batch.js";

/** Codes looked up in one query, and request ids. */
const maxCodesPerQuery = 64;
const maxRequestsPerQuery = 64;
/**
 * Codes that are remembered, and for how long, so that a crowd for one code looks it up once. Not for ever: a code that was
 * purged may be added again, to another coupon.
 */
const maxRemembered = 10_000;
const rememberMs = 1_000;

interface CodeLookup {
  readonly keys: readonly string[];
  readonly forUser: string | undefined;
}

interface CodeRow {
  readonly id: number;
  readonly couponId: string;
  readonly codeKey: string;
  /** Of those who asked, who holds it or has held it. null: it has free seats. */
  readonly holders: readonly string[] | null;
}

interface EarlierRow extends Omit<EarlierIssue, "code"> {
  readonly requestId: string;
  readonly codeId: number | null;
  readonly code: string | null;
  readonly exactCodes: boolean;
}

export class PostgresTargetStore implements TargetStore {
  private readonly lookups = new TurnBatch<CodeLookup, FoundCode | null>({
    maxItems: maxCodesPerQuery,
    run: (items) => this.readCodes(items),
  });
  private readonly earlierIssues = new TurnBatch<string, EarlierIssue | null>({
    maxItems: maxRequestsPerQuery,
    run: (requestIds) => this.readEarlierIssues(requestIds),
  });
  private readonly remembered = new BoundedCache<FoundCode>(maxRemembered, { ttl: rememberMs });

  constructor(private readonly database: Database) {}

  async findCode(written: string, deadlineMs: DeadlineMs, forUser?: string): Promise<FoundCode | null> {
    const keys = codeKeys(written);
    const known = this.remembered.get(keys[0]);
    // Whether this user is one of those who hold it is not remembered.
    if (known && !(known.isTaken && forUser !== undefined)) return known;
    const askedAt = performance.now();
    const found = await guarded(deadlineMs, () => this.lookups.add({ keys, forUser }));
    // From when it was asked for: what has changed since is not in the answer.
    if (found) this.remembered.set(keys[0], found, { start: askedAt });
    return found;
  }

  forgetCode(written: string): void {
    this.remembered.delete(codeKeys(written)[0]);
  }

  async listIssuable(type: CouponType, limit: number): Promise<string[]> {
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<{ id: string }[]>`SELECT id FROM list_issuable(${type}, ${limit})`,
    );
    return rows.map(({ id }) => id);
  }

  findEarlierIssue(requestId: string, deadlineMs: DeadlineMs): Promise<EarlierIssue | null> {
    return guarded(deadlineMs, () => this.earlierIssues.add(requestId));
  }

  /** One by one by its index, at every size of the table. */
  private async readEarlierIssues(requestIds: readonly string[]): Promise<(EarlierIssue | null)[]> {
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<EarlierRow[]>`
        SELECT u.request_id, u.user_id, u.coupon_id, c.type, u.code_id, u.code, c.exact_codes
        FROM (
          SELECT * FROM json_array_elements_text(${JSON.stringify(requestIds)}::text::json) AS asked (request_id)
          LIMIT ${sql.unsafe(String(maxRequestsPerQuery))}
        ) asked
        CROSS JOIN LATERAL (SELECT * FROM user_coupons WHERE request_id = asked.request_id OFFSET 0) u
        CROSS JOIN LATERAL (SELECT * FROM coupons WHERE id = u.coupon_id OFFSET 0) c`,
    );
    const found = new Map(
      rows.map(({ requestId, codeId: id, code, exactCodes, ...earlier }) => {
        const given = id === null || code === null ? null : { id, key: codeKey(code, exactCodes) };
        return [requestId, { code: given, ...earlier }];
      }),
    );
    return requestIds.map((requestId) => found.get(requestId) ?? null);
  }

  /** The same for codes. */
  private async readCodes(items: readonly CodeLookup[]): Promise<(FoundCode | null)[]> {
    const keys = items.flatMap((item) => item.keys);
    const users = items.flatMap(({ forUser }) => forUser ?? []);
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<CodeRow[]>`
        SELECT k.id, k.coupon_id, k.code_key, CASE WHEN k.holder_count >= k.max_holders THEN to_json(array(
          SELECT one.user_id
          FROM json_array_elements_text(${JSON.stringify(users)}::text::json) AS asking (user_id)
          CROSS JOIN LATERAL (
            SELECT u.user_id FROM user_coupons u
            WHERE u.user_id = asking.user_id AND u.coupon_id = k.coupon_id AND u.code_id = k.id LIMIT 1
          ) one
        )) END AS holders
        FROM json_array_elements_text(${JSON.stringify(keys)}::text::json) AS asked (key)
        CROSS JOIN LATERAL (SELECT * FROM codes WHERE code_key = asked.key OFFSET 0) k`,
    );
    const byKey = new Map(rows.map((row) => [row.codeKey, row]));
    return items.map(({ keys, forUser }) => {
      const row = keys.map((key) => byKey.get(key)).find((found) => found !== undefined);
      if (!row) return null;
      const { id, couponId, holders } = row;
      if (holders && forUser !== undefined && !holders.includes(forUser)) return null;
      return { id, couponId, isTaken: holders !== null };
    });
  }
}
