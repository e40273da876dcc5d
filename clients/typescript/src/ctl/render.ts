/** How things are shown: to people as tables, to programs as JSON. */
import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Coupon, CouponState, CouponType, type Discount, formatMoney } from "../node.js";
import type { Io } from "./io.js";

export type Cell = string | number | bigint | undefined;

export function timeText(time: Timestamp | undefined): string {
  return time ? timestampDate(time).toISOString() : "";
}

export function discountText(discount: Discount | undefined): string {
  if (!discount) return "";
  const { kind, maximumAmount, minimumOrderAmount } = discount;
  const off = kind.case === "percentageBasisPoints" ? `${kind.value / 100}%` : kind.case ? formatMoney(kind.value) : "";
  const most = maximumAmount ? `, at most ${formatMoney(maximumAmount)}` : "";
  const from = minimumOrderAmount ? `, from ${formatMoney(minimumOrderAmount)}` : "";
  return `${off}${most}${from}`;
}

/** Columns as wide as their widest cell; numbers to the right. */
export function table(heads: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const texts = rows.map((row) => heads.map((_, i) => String(row[i] ?? "").replace(/[\p{Cc}]/gu, "?")));
  const widths = heads.map((head, i) => Math.max(head.length, ...texts.map((row) => (row[i] as string).length)));
  const right = heads.map(
    (_, i) => rows.length > 0 && rows.every((row) => /^(number|bigint|undefined)$/.test(typeof row[i])),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (right[i] ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number)))
      .join("  ")
      .trimEnd();
  return [line(heads), ...texts.map(line)].map((text) => `${text}\n`).join("");
}

/** One thing: a name and a value a line. What is empty is left out. */
export function fields(pairs: readonly (readonly [string, Cell])[]): string {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${String(value).replace(/[\p{Cc}]/gu, "?")}\n`).join("");
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

export function bar(share: number, width: number): string {
  const parts = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  return `${"█".repeat(parts >> 3)}${eighths[parts & 7]}`.padEnd(width, "·");
}

export function sparkline(values: readonly number[]): string {
  const most = Math.max(...values, 1e-9);
  return values.map((value) => "▁▂▃▄▅▆▇█"[Math.round((value / most) * 7)]).join("");
}

/** What the options say of the way in which a command answers. */
export class Output {
  constructor(
    readonly io: Io,
    readonly json: boolean,
    private readonly colour: boolean,
  ) {}

  text(text: string): void {
    this.io.out(text);
  }

  /** One line of JSON. */
  value(value: JsonValue): void {
    this.io.out(`${JSON.stringify(value)}\n`);
  }

  /** One thing: a JSON document, or what people read. */
  one<D extends DescMessage>(schema: D, message: MessageShape<D>, people: () => string): void {
    if (this.json) this.io.out(`${JSON.stringify(toJson(schema, message), null, 2)}\n`);
    else this.io.out(people());
  }

  /** Many: JSON lines as they come, or a table when all are there. Answers how many. */
  async many<D extends DescMessage>(
    schema: D,
    items: AsyncIterable<MessageShape<D>>,
    limit: number,
    heads: readonly string[],
    cells: (item: MessageShape<D>) => readonly Cell[],
  ): Promise<void> {
    const rows: (readonly Cell[])[] = [];
    let count = 0;
    let more = false;
    for await (const item of items) {
      if (count === limit) {
        more = true;
        break;
      }
      count += 1;
      if (this.json) this.value(toJson(schema, item));
      else rows.push(cells(item));
    }
    if (!this.json) this.io.out(count === 0 ? "none\n" : table(heads, rows));
    if (more) this.io.say(`There are more than ${limit}: --limit shows more.\n`);
  }

  /** For people, beside what was asked for. */
  note(text: string): void {
    this.io.say(`${text}\n`);
  }

  strong(text: string): string {
    return this.colour ? `\u001b[1m${text}\u001b[22m` : text;
  }

  /** Draws over what it has drawn before; silent where nobody sees it. */
  progress(): { draw(done: number, total: number, what: string): void; end(): void } {
    if (!this.io.sayTerminal) return { draw: () => {}, end: () => {} };
    return {
      draw: (done, total, what) => {
        const share = total > 0 ? done / total : 0;
        this.io.say(`\r\u001b[2K${bar(share, 30)} ${Math.floor(share * 100)} %  ${what}`);
      },
      end: () => this.io.say("\r\u001b[2K"),
    };
  }
}

export function couponCells(coupon: Coupon): readonly Cell[] {
  const name = [...coupon.name];
  return [
    coupon.id,
    name.length > 40 ? `${name.slice(0, 39).join("")}…` : coupon.name,
    CouponState[coupon.state],
    discountText(coupon.discount) || "each code's own",
    coupon.issuedCount,
    coupon.quantity ?? "unlimited",
    timeText(coupon.expireTime),
  ];
}

export const couponHeads = ["id", "name", "state", "off", "issued", "of", "ends"];

export function couponFields(coupon: Coupon): string {
  const { throttle, quota } = coupon;
  return fields([
    ["id", coupon.id],
    ["name", coupon.name],
    ["description", coupon.description],
    ["category", coupon.category],
    ["state", CouponState[coupon.state]],
    ["type", coupon.type ? CouponType[coupon.type] : undefined],
    ["off", discountText(coupon.discount)],
    ["issued", `${coupon.issuedCount} of ${coupon.quantity ?? "unlimited"}`],
    ["used", `${coupon.usedCount}${coupon.usageCap === undefined ? "" : ` of ${coupon.usageCap}`}`],
    ["per user", coupon.maxPerUser],
    ["uses each", coupon.maxUses],
    ["stackable", coupon.stackable ? "yes" : "no"],
    ["codes", coupon.codeBook ? (coupon.codeBook.exactMatch ? "compared exactly" : "yes") : undefined],
    ["throttle", throttle && `${throttle.maxConcurrent} at once, ${throttle.maxPerSecond} a second`],
    ["quota", quota && `${quota.maxPerDay} a day of ${quota.group}`],
    ["starts", timeText(coupon.startTime)],
    ["ends", timeText(coupon.expireTime)],
    ["deleted", timeText(coupon.deleteTime)],
    ["revision", coupon.revision],
    ...Object.entries(coupon.labels).map(([name, value]) => [`label ${name}`, value] as const),
  ]);
}
