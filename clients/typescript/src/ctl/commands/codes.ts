import { type Command, InvalidArgumentError, Option } from "commander";
import { stringify } from "csv-stringify/sync";
import {
  type Code,
  type CodeJob,
  CodeJobSchema,
  CodeJobState,
  CodeSchema,
  CodeStatus,
  type CouponType,
  formatMoney,
  pages,
} from "../../node.js";
import { pause } from "../../waiting.js";
import { Told, UsageError } from "../failures.js";
import { typeOf, wholeOf } from "../parse.js";
import { type Cell, discountText, fields, timeText } from "../render.js";
import type { Act, Session } from "../session.js";
import { limitOption, pageSize } from "./coupons.js";
import { csvColumns } from "./csv-codes.js";
import { type CodesTarget, upload } from "./upload.js";

/** How long after one look at a job the next one comes. */
const lookMs = 500;

export function addCodesCommands(program: Command, act: Act): void {
  const codes = program.command("codes").description("the codes of code books");

  codes
    .command("upload")
    .description("adds the codes of a file; a second run of the same file adds nothing twice")
    .argument("<file>", `a code a line, or a table with the columns ${csvColumns.join(", ")}`)
    .option("--coupon <id>", "to this code book")
    .addOption(new Option("--type <name>", "to the pool of this type: free, standard or megadeal").argParser(typeOf))
    .action((file: string, options: { coupon?: string; type?: CouponType }, command: Command) =>
      act((session) => upload(session, file, targetOf(options)), command),
    );

  codes
    .command("generate")
    .description("makes random codes, and waits until they are made")
    .requiredOption("--coupon <id>", "the code book")
    .requiredOption("--pattern <text>", "RIDE-*{4}: # a digit, ? a letter, * either, [...] one of these, {n} so often")
    .addOption(new Option("--count <n>", "how many").argParser(wholeOf).makeOptionMandatory())
    .option("--no-wait", "answers the job at once")
    .option("--request-id <id>", "makes a repetition of this command do nothing twice")
    .action((options: GenerateOptions, command: Command) => act((session) => generate(session, options), command));

  codes
    .command("list")
    .description("lists codes, in the order in which they were added")
    .argument("<coupon>", "the code book")
    .option("--status <list>", "free, issued, used or expired, with commas between", statusesOf)
    .addOption(limitOption())
    .action((couponId: string, { status = [], limit }: { status?: CodeStatus[]; limit: number }, command: Command) =>
      act(async ({ client, output, call }) => {
        const request = { couponId, statuses: status, pageSize: pageSize(limit) };
        const found = pages(client.catalog.listCodes, request, call);
        const heads = ["code", "status", "holders", "off", "expires", "added"];
        await output.many(CodeSchema, found, limit, heads, (code): Cell[] => [
          ...[code.code, CodeStatus[code.status], code.holderCount, discountText(code.terms?.discount)],
          ...[timeText(code.terms?.expireTime), timeText(code.createTime)],
        ]);
      }, command),
    );

  codes
    .command("export")
    .description("writes all codes to standard output, as CSV that `upload` reads, with status and holders")
    .argument("<coupon>", "the code book")
    .option("--csv", "as is the default; --json writes JSON lines")
    .option("--status <list>", "free, issued, used or expired, with commas between", statusesOf)
    .action((couponId: string, { status = [] }: { status?: CodeStatus[] }, command: Command) =>
      act(async ({ client, output, call }) => {
        const found = pages(client.catalog.listCodes, { couponId, statuses: status, pageSize: 1_000 }, call);
        if (output.json) return await output.many(CodeSchema, found, Infinity, [], () => []);
        output.text(stringify([[...csvColumns, "status", "holders"]]));
        for await (const code of found) output.text(stringify([csvRow(code)]));
      }, command),
    );
}

interface GenerateOptions {
  coupon: string;
  pattern: string;
  count: number;
  wait: boolean;
  requestId?: string;
}

async function generate({ client, output, call, signal }: Session, options: GenerateOptions): Promise<void> {
  const { coupon: couponId, pattern, count, wait, requestId = "" } = options;
  let { job } = await client.catalog.generateCodes({ couponId, pattern, count, requestId }, call);
  const progress = output.progress();
  while (job && wait && job.state === CodeJobState.RUNNING) {
    progress.draw(job.madeCount, job.count, `${job.madeCount} of ${job.count} codes`);
    await pause(lookMs, signal);
    ({ job } = await client.catalog.getCodeJob({ jobId: job.id }, call));
  }
  progress.end();
  if (!job) return;
  const made: CodeJob = job;
  output.one(CodeJobSchema, made, () =>
    fields([
      ["job", made.id],
      ["state", CodeJobState[made.state]],
      ["codes", `${made.madeCount} of ${made.count}`],
      ["failure", made.failure],
    ]),
  );
  if (made.state === CodeJobState.FAILED || made.state === CodeJobState.CANCELLED) throw new Told(1);
}

function targetOf({ coupon, type }: { coupon?: string; type?: CouponType }): CodesTarget {
  if ((coupon === undefined) === (type === undefined)) throw new UsageError("say one of --coupon and --type");
  return coupon === undefined ? { case: "type", value: type as CouponType } : { case: "couponId", value: coupon };
}

function statusesOf(text: string): CodeStatus[] {
  return text.split(",").map((name) => {
    const status = CodeStatus[name.trim().toUpperCase() as keyof typeof CodeStatus];
    if (!status) throw new InvalidArgumentError("Write free, issued, used or expired.");
    return status;
  });
}

function csvRow({ code, terms, status, holderCount }: Code): Cell[] {
  const discount = terms?.discount;
  const { minimumOrderAmount: minimum, maximumAmount: maximum } = discount ?? {};
  return [
    code,
    ...[discount && discountText({ ...discount, minimumOrderAmount: undefined, maximumAmount: undefined } as never)],
    ...[minimum && formatMoney(minimum), maximum && formatMoney(maximum)],
    ...[timeText(terms?.expireTime), terms?.maxUses, terms?.maxHolders],
    ...[CodeStatus[status], holderCount],
  ];
}
