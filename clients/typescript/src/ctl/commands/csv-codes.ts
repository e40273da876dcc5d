/** A file of codes: a code a line, or a table whose first line names its columns. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { parse } from "csv-parse";
import { type CodeLine, CodeLineSchema, CodeTermsSchema } from "../../node.js";
import { UsageError } from "../failures.js";
import { discountOf, moneyOf, timeOf, wholeOf } from "../parse.js";

export const csvColumns = ["code", "off", "minimum", "maximum", "expire_time", "max_uses", "max_holders"] as const;
/** What `export` adds; it is read over, so that what was exported can be uploaded elsewhere. */
const readOver = ["status", "holders"] as const;
type Column = (typeof csvColumns)[number] | (typeof readOver)[number];

/** Longer ones are none of codes. */
const maxRecordLength = 10_000;

export interface FileLine {
  /** In the file, from 1. */
  readonly number: number;
  readonly line: CodeLine;
}

interface Row {
  readonly record: readonly string[];
  readonly info: { readonly lines: number };
}

export async function* readCodes(file: string, signal: AbortSignal): AsyncGenerator<FileLine> {
  const options = { bom: true, trim: true, info: true, skip_empty_lines: true, relax_column_count: true } as const;
  const parser = parse({ ...options, max_record_size: maxRecordLength });
  // What goes wrong is thrown to whoever reads.
  pipeline(createReadStream(file, { signal }), parser, () => {});
  let columns: readonly Column[] | undefined;
  try {
    for await (const { record, info } of parser as AsyncIterable<Row>) {
      if (!columns) {
        const named = record.map((cell) => cell.toLowerCase());
        columns = named.includes("code") ? named.map((name) => columnOf(name, file)) : ["code"];
        if (named.includes("code")) continue;
      }
      yield { number: info.lines, line: lineOf(columns, record, `${file}:${info.lines}`) };
    }
  } catch (error) {
    if (error instanceof UsageError || signal.aborted) throw error;
    throw new UsageError(`${file}: ${(error as Error).message}`);
  }
}

function columnOf(name: string, file: string): Column {
  if (([...csvColumns, ...readOver] as readonly string[]).includes(name)) return name as Column;
  throw new UsageError(`${file}: there is no column "${name}", only ${csvColumns.join(", ")}`);
}

function lineOf(columns: readonly Column[], record: readonly string[], where: string): CodeLine {
  if (record.length > columns.length) throw new UsageError(`${where}: more cells than columns`);
  const line = create(CodeLineSchema);
  const terms = create(CodeTermsSchema);
  const amounts: Partial<Record<"minimum" | "maximum", string>> = {};
  let own = false;
  for (const [i, text] of record.entries()) {
    const column = columns[i] as Column;
    if (text === "" || (readOver as readonly string[]).includes(column)) continue;
    if (column === "code") {
      line.code = text;
      continue;
    }
    own = true;
    try {
      if (column === "off") terms.discount = discountOf(text);
      else if (column === "expire_time") terms.expireTime = timeOf(absolute(text));
      else if (column === "max_uses") terms.maxUses = wholeOf(text);
      else if (column === "max_holders") terms.maxHolders = wholeOf(text);
      else amounts[column as "minimum" | "maximum"] = text;
    } catch (error) {
      throw new UsageError(`${where}: ${column}: ${(error as Error).message}`);
    }
  }
  const { minimum, maximum } = amounts;
  if ((minimum || maximum) && !terms.discount) throw new UsageError(`${where}: off: is missing beside an amount`);
  try {
    if (terms.discount && minimum) terms.discount.minimumOrderAmount = moneyOf(minimum);
    if (terms.discount && maximum) terms.discount.maximumAmount = moneyOf(maximum);
  } catch (error) {
    throw new UsageError(`${where}: ${(error as Error).message}`);
  }
  if (own) line.terms = terms;
  return line;
}

/** "In 30 days" would be another time in the next run, and so another request. */
function absolute(text: string): string {
  return /^\d+[a-z]+$/.test(text) ? "not a time" : text;
}

/** What names the file's content and where it goes: the same in each run. */
export async function nameOf(file: string, target: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256").update(`${target}\n`);
  for await (const part of createReadStream(file, { signal })) hash.update(part as Buffer);
  return hash.digest("hex").slice(0, 40);
}
