import { readFileSync } from "node:fs";

const tailLines = 15;
const tailCharacters = 4_000;

/** The last lines of a text, for an error message. */
export function lastLines(text: string): string {
  return text.trimEnd().slice(-tailCharacters).split("\n").slice(-tailLines).join("\n");
}

/** The last lines of a log file; "" when it cannot be read, since an error about an error helps nobody. */
export function logTail(path: string): string {
  try {
    return lastLines(readFileSync(path, "utf8"));
  } catch {
    return "";
  }
}
