import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { errorCode } from "../error-code.js";

/** Far more than a URL with eight hosts has. */
const maxBytes = 16 * 1_024;

/** Of a secret setting: the one that names a file with its value. */
export const fileSettingOf = (name: string) => `${name}_FILE`;

export interface SecretFiles {
  /** The settings, with those in it that files had. */
  readonly given: Record<string, string>;
  /** By which name each of these was given. */
  readonly names: ReadonlyMap<string, string>;
  /** What is wrong, each with the name of the setting before it. Nothing of what is in a file. */
  readonly problems: readonly string[];
}

/** Reads the files that `NAME_FILE` settings name, for each of the secrets. */
export function readSecretFiles(settings: Record<string, string>, secrets: readonly string[]): SecretFiles {
  const given = { ...settings };
  const names = new Map<string, string>();
  const problems: string[] = [];
  for (const name of secrets) {
    const fileName = fileSettingOf(name);
    const path = settings[fileName];
    if (path === undefined) continue;
    delete given[fileName];
    names.set(name, fileName);
    if (settings[name] !== undefined) problems.push(`${fileName}: cannot be given together with ${name}`);
    try {
      given[name] = readSecret(path);
    } catch (error) {
      problems.push(`${fileName}: ${(error as Error).message}`);
      delete given[name];
    }
  }
  return { given, names, problems };
}

function readSecret(path: string): string {
  let file: number;
  try {
    // A pipe must not hold up the start until somebody writes to it.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new Error(`must name a file that can be read (${errorCode(error)})`);
  }
  try {
    if (!fstatSync(file).isFile()) throw new Error("must name a file, and no folder or pipe");
    const bytes = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (let more = 1; more > 0 && length < bytes.length; length += more)
      more = readSync(file, bytes, length, bytes.length - length, null);
    if (length > maxBytes) throw new Error(`names a file of more than ${maxBytes} bytes`);
    const text = textOf(bytes.subarray(0, length)).replace(/\r?\n$/, "");
    if (text === "") throw new Error("names a file that is empty");
    if (/[\r\n\0]/.test(text)) throw new Error("names a file of more than one line");
    return text;
  } finally {
    closeSync(file);
  }
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("names a file that is no text in UTF-8");
  }
}
