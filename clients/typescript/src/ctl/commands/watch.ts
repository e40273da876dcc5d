import { type Command, Option } from "commander";
import { ConnectError, type Coupon, CouponState, timestampDate } from "../../node.js";
import { pause } from "../../waiting.js";
import { exitCode, failureOf } from "../failures.js";
import { durationOf, wholeOf } from "../parse.js";
import { bar, sparkline } from "../render.js";
import type { Act, Session } from "../session.js";

/** Rates that the picture has. */
const maxRates = 60;
/** Nothing is issued any more. */
const over: readonly CouponState[] = [CouponState.ENDED, CouponState.DELETED];

interface WatchOptions {
  interval: number;
  count?: number;
}

interface Look {
  readonly coupon: Coupon;
  readonly timeMs: number;
  /** Issued a second, since the look before. */
  readonly rate: number;
}

export function addWatchCommand(program: Command, act: Act): void {
  program
    .command("watch")
    .description("a coupon's sale as it goes, until Ctrl-C or the coupon's end")
    .argument("<coupon>", "its id")
    .addOption(new Option("--interval <time>", "between two looks").argParser(durationOf).default(1_000, "1s"))
    .addOption(new Option("--count <n>", "so many looks, and no more").argParser(wholeOf))
    .action((couponId: string, options: WatchOptions, command: Command) =>
      act((session) => watch(session, couponId, options), command),
    );
}

async function watch(session: Session, couponId: string, { interval, count = Infinity }: WatchOptions): Promise<void> {
  const { client, call, signal } = session;
  const rates: number[] = [];
  const screen = screenOf(session);
  let before: Look | undefined;
  for (let looks = 1; ; looks += 1) {
    try {
      const { coupon } = await client.catalog.getCoupon({ couponId }, call);
      if (!coupon) return;
      const look = lookOf(coupon, before);
      if (before) rates.push(look.rate);
      if (rates.length > maxRates) rates.shift();
      before = look;
      screen.show(look, rates);
      if (over.includes(coupon.state)) return;
    } catch (error) {
      const failure = failureOf(error, signal);
      // A sale is watched beyond a service that is away for a moment, but not one that is not there at all.
      if (!before || failure?.code !== exitCode.unavailable || !(error instanceof ConnectError)) throw error;
      session.output.note(`couponctl: ${failure.text.split("\n", 1)[0]}`);
    }
    if (looks >= count) return;
    await pause(interval, signal);
  }
}

function lookOf(coupon: Coupon, before: Look | undefined): Look {
  const timeMs = performance.now();
  if (!before) return { coupon, timeMs, rate: 0 };
  const seconds = (timeMs - before.timeMs) / 1_000;
  const issued = Number(coupon.issuedCount - before.coupon.issuedCount);
  return { coupon, timeMs, rate: Math.max(0, issued / seconds) };
}

function screenOf({ output }: Session): { show(look: Look, rates: readonly number[]): void } {
  const { io } = output;
  if (output.json) {
    return {
      show: ({ coupon, rate }) =>
        output.value({
          time: new Date().toISOString(),
          state: CouponState[coupon.state],
          issued: coupon.issuedCount.toString(),
          remaining: coupon.remainingCount?.toString() ?? null,
          perSecond: Math.round(rate * 10) / 10,
        }),
    };
  }
  if (!io.terminal) {
    return {
      show: ({ coupon, rate }) => {
        const of = coupon.quantity === undefined ? "" : ` of ${coupon.quantity}`;
        const state = CouponState[coupon.state];
        output.text(`${new Date().toISOString()}  ${state}  ${coupon.issuedCount}${of} issued  ${rate.toFixed(1)}/s\n`);
      },
    };
  }
  let drawn = 0;
  return {
    show: (look, rates) => {
      const lines = picture(look, rates, io.columns);
      const up = drawn > 0 ? `\u001b[${drawn}A` : "";
      output.text(up + lines.map((line, i) => `\u001b[2K${i === 0 ? output.strong(line) : line}\n`).join(""));
      drawn = lines.length;
    },
  };
}

function picture({ coupon, rate }: Look, rates: readonly number[], columns: number): string[] {
  const { issuedCount, quantity, remainingCount } = coupon;
  const width = Math.max(10, Math.min(60, columns - 24));
  const share = quantity ? Number(remainingCount ?? 0n) / Number(quantity) : 1;
  const stock = quantity === undefined ? "unlimited" : `${bar(share, width)} ${remainingCount} left`;
  const seconds = rate > 0 && remainingCount !== undefined ? Number(remainingCount) / rate : undefined;
  const gone = seconds === undefined ? "" : `, sold out in ${Math.ceil(seconds)} s`;
  const end = coupon.expireTime ? `, ends ${timestampDate(coupon.expireTime).toISOString()}` : "";
  return [
    `${coupon.name}  ${CouponState[coupon.state]}`.slice(0, columns),
    `stock   ${stock}`.slice(0, columns),
    `issued  ${issuedCount}${quantity === undefined ? "" : ` of ${quantity}`}${end}`.slice(0, columns),
    `rate    ${rate.toFixed(1)}/s${gone}`.slice(0, columns),
    `        ${sparkline(rates.slice(-width))}`,
  ];
}
