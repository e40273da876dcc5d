import { statSync } from "node:fs";
import { type CouponType, LineProblem, type UploadCodesResponse } from "../../node.js";
import { UsageError } from "../failures.js";
import { fields } from "../render.js";
import type { Session } from "../session.js";
import { type FileLine, nameOf, readCodes } from "./csv-codes.js";

/** Lines a call. The service takes 50,000 and 8 MiB; fewer show sooner how far it is. It is part of what names a call: a new value means new calls. */
const batchLines = 5_000;
/** The service stores a batch in a second or so; a busy one takes longer. */
const batchTimeoutMs = 30_000;
/** Told by their numbers; the others are counted. */
const maxTold = 1_000;

export type CodesTarget =
  | { readonly case: "couponId"; readonly value: string }
  | { readonly case: "type"; readonly value: CouponType };

/**
 * Sends a file in batches. Each has a request id that comes from the file's content, the target and the first line: so a second run gets the
 * answers of the first one for what that one has done, and goes on from there.
 */
export async function upload(session: Session, file: string, target: CodesTarget): Promise<void> {
  const { client, output, options, signal } = session;
  const total = await check(file, signal);
  const name = await nameOf(file, `${target.case}:${target.value}`, signal);
  const progress = output.progress();
  const sum = { couponId: "", lines: total, added: 0, duplicates: 0, invalid: 0, uploadIds: [] as string[] };
  const rejected: { line: number; problem: string; message: string }[] = [];
  let done = 0;
  try {
    for await (const batch of batches(readCodes(file, signal))) {
      const first = (batch[0] as FileLine).number;
      const request = { target, lines: batch.map(({ line }) => line), requestId: `csv-${name}-${first}` };
      const timeoutMs = Math.max(options.timeout, batchTimeoutMs);
      const answer = await client.catalog.uploadCodes(request, { signal, timeoutMs });
      count(answer, batch);
      done += batch.length;
      progress.draw(done, total, `${done} of ${total} lines`);
    }
  } catch (error) {
    progress.end();
    output.note(`${done} of ${total} lines were sent. The same command goes on from there.`);
    throw error;
  }
  progress.end();
  if (output.json) output.value({ ...sum, rejected });
  else {
    const { couponId, lines, added, duplicates, invalid } = sum;
    const upload = sum.uploadIds.join(" ");
    output.text(
      fields([
        ...Object.entries({ coupon: couponId, lines, added, duplicates, invalid }),
        [sum.uploadIds.length > 1 ? "uploads" : "upload", upload],
      ]),
    );
    for (const { line, problem, message } of rejected) output.note(`${file}:${line}: ${problem} ${message}`.trimEnd());
  }
  if (sum.duplicates + sum.invalid > rejected.length) output.note(`Only the first ${maxTold} are named.`);

  function count(answer: UploadCodesResponse, batch: readonly FileLine[]): void {
    sum.couponId = answer.couponId;
    sum.added += answer.addedCount;
    sum.duplicates += answer.duplicateCount;
    sum.invalid += answer.invalidCount;
    if (answer.uploadId) sum.uploadIds.push(answer.uploadId);
    for (const { line, problem, message } of answer.rejectedLines) {
      if (rejected.length === maxTold) return;
      rejected.push({ line: batch[line - 1]?.number ?? 0, problem: LineProblem[problem], message });
    }
  }
}

/** Reads the whole file before anything of it is sent. Answers how many codes it has. */
async function check(file: string, signal: AbortSignal): Promise<number> {
  if (!statSync(file, { throwIfNoEntry: false })?.isFile()) throw new UsageError(`${file}: there is no such file`);
  let total = 0;
  for await (const _ of readCodes(file, signal)) total += 1;
  if (total === 0) throw new UsageError(`${file}: there are no codes in it`);
  return total;
}

async function* batches(lines: AsyncIterable<FileLine>): AsyncGenerator<FileLine[]> {
  let batch: FileLine[] = [];
  for await (const line of lines) {
    batch.push(line);
    if (batch.length === batchLines) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}
