import type { Sql } from "postgres";
import { noStandingUses, type StandingUses } from "../../../domain/usage.js";
import type { OrderChoice } from "../../ports/usages.js";

/** As the query has it: of the orders that it asks for, those of which something stands. */
export interface StandingRow {
  /** Which of the orders, from 1. */
  readonly ordinal: number;
  readonly use_count: number;
  readonly discounted: number;
  readonly is_stackable: boolean;
  readonly currency_code: string | null;
  readonly order_amount: number | null;
  readonly mark: string;
}

/** What stands of the orders that choices name. Those of one call name the same one, which is read once. */
export class OrdersOf {
  private readonly orders: ReadonlyMap<string, OrderChoice>;

  constructor(private readonly choices: readonly OrderChoice[]) {
    this.orders = new Map(choices.filter(({ orderId }) => orderId !== "").map((choice) => [keyOf(choice), choice]));
  }

  /** An expression that is computed once in a query: an array of StandingRow, or null. */
  query(sql: Sql) {
    const json = [...this.orders.values()].map(({ userId, orderId }) => ({ user_id: userId, order_id: orderId }));
    return sql`(
      SELECT json_agg(one) FROM (
        SELECT a.ordinal, o.*
        FROM ROWS FROM (json_to_recordset(${JSON.stringify(json)}::text::json) AS (user_id text, order_id text))
          WITH ORDINALITY AS a (user_id, order_id, ordinal)
        CROSS JOIN LATERAL standing_uses(a.user_id, a.order_id) o
        WHERE o.use_count > 0
      ) one
    )`;
  }

  /** Of each choice, in order. */
  read(rows: readonly StandingRow[] | null): StandingUses[] {
    if (!rows) return this.choices.map(() => noStandingUses);
    const byOrdinal = new Map(rows.map((row) => [row.ordinal, toStandingUses(row)]));
    const byKey = new Map([...this.orders.keys()].map((key, index) => [key, byOrdinal.get(index + 1)]));
    return this.choices.map((choice) => byKey.get(keyOf(choice)) ?? noStandingUses);
  }
}

/** Neither name has a line feed. */
function keyOf({ userId, orderId }: OrderChoice): string {
  return `${userId}\n${orderId}`;
}

function toStandingUses(row: StandingRow): StandingUses {
  const { currency_code: currencyCode, order_amount: minorUnits, mark } = row;
  const amount = currencyCode === null || minorUnits === null ? null : { currencyCode, minorUnits };
  return { count: row.use_count, discounted: row.discounted, stackable: row.is_stackable, amount, mark };
}
