import { maxCodeLength, separators } from "./code.js";

/** What the codes of a pattern are made of. */
export interface CodePattern {
  /** For each character of a code, those that it may be. */
  readonly positions: readonly Position[];
  /** How many different codes it has; past 2^53 about. */
  readonly capacity: number;
}

export interface Position {
  readonly characters: string;
  /** Of the pattern, from 1: where it is written there. */
  readonly column: number;
}

/** Why a text is no pattern, or none that a book can use. */
export class PatternError {
  constructor(readonly description: string) {}
}

const digits = "0123456789";
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const wildcards: Record<string, string> = { "#": digits, "?": letters, "*": letters + digits };
const literal = /^[A-Za-z0-9 \-_./]$/;
const printable = /^[ -~]$/;
/** Both ends of a range are of one of these. */
const rangeKinds = [/^[0-9]{2}$/, /^[A-Z]{2}$/, /^[a-z]{2}$/];
const repetition = /^\{([1-9][0-9]?)\}/;
const maxRepetition = 64;
const onlyLettersAndDigits = /^[A-Za-z0-9]+$/;

/** The language is described for callers at `GenerateCodes`. */
export function parsePattern(text: string): CodePattern | PatternError {
  const positions: Position[] = [];
  for (let at = 0; at < text.length; ) {
    const position = readPosition(text, at);
    if (position instanceof PatternError) return position;
    at = position.end;
    let times = 1;
    if (text[at] === "{") {
      const found = repetition.exec(text.slice(at));
      times = Number(found?.[1]);
      if (!found || times > maxRepetition) return wrongAt(at, `"{" must begin {n}, with n from 1 to ${maxRepetition}`);
      if (!position.repeats) return wrongAt(at, "{n} must stand after one of # ? * [...]");
      at += found[0].length;
    }
    for (let n = 0; n < times; n++) positions.push(position);
    if (positions.length > maxCodeLength)
      return new PatternError(`makes codes of more than ${maxCodeLength} characters`);
  }
  if (positions.length === 0) return new PatternError("is required");
  return { positions, capacity: positions.reduce((product, { characters }) => product * characters.length, 1) };
}

/**
 * What speaks against generating codes of a pattern for a book; null: nothing. A book that ignores case and separators has
 * fewer different codes: all that a pattern generates must differ there, too.
 */
export function checkPattern({ positions, capacity }: CodePattern, exactMatch: boolean, count: number): string | null {
  for (const { characters, column } of exactMatch ? [] : positions) {
    if (characters.length === 1) continue;
    if (characters.replace(separators, "") !== characters) {
      return `at ${column}: the code book ignores separators, so [...] cannot have one among others`;
    }
    if (hasTwice(characters.toUpperCase())) {
      return `at ${column}: [...] has a letter twice, for the code book ignores case`;
    }
  }
  for (const position of [positions[0], positions.at(-1)]) {
    if (position?.characters.includes(" ")) return `at ${position.column}: a code cannot begin or end with a space`;
  }
  if (!positions.some(({ characters }) => onlyLettersAndDigits.test(characters))) {
    return "needs a character that is always a letter or a digit";
  }
  return capacity < count ? `can make only ${capacity} different codes` : null;
}

/** The code of a number from 0 to less than the capacity; each number has one of its own. */
export function codeAt({ positions }: CodePattern, index: number): string {
  let rest = index;
  let code = "";
  for (const { characters } of positions) {
    code += characters[rest % characters.length];
    rest = Math.floor(rest / characters.length);
  }
  return code;
}

/** Any code of the pattern. `below` answers a random whole number from 0 to less than its argument, up to 256. */
export function randomCode({ positions }: CodePattern, below: (limit: number) => number): string {
  let code = "";
  for (const { characters } of positions) {
    code += characters.length === 1 ? characters : characters[below(characters.length)];
  }
  return code;
}

interface ReadPosition extends Position {
  /** Where the next one begins. */
  readonly end: number;
  readonly repeats: boolean;
}

function readPosition(text: string, at: number): ReadPosition | PatternError {
  const column = at + 1;
  const character = text[at] as string;
  const wildcard = wildcards[character];
  if (wildcard) return { characters: wildcard, column, end: at + 1, repeats: true };
  if (character === "[") {
    const end = text.indexOf("]", at);
    if (end < 0) return wrongAt(at, '"[" has no "]"');
    const characters = readSet(text, at + 1, end);
    return characters instanceof PatternError ? characters : { characters, column, end: end + 1, repeats: true };
  }
  if (character === "\\") {
    const next = text[at + 1] ?? "";
    if (!printable.test(next)) return wrongAt(at, '"\\" must stand before a visible ASCII character or a space');
    return { characters: next, column, end: at + 2, repeats: false };
  }
  if (!literal.test(character)) return wrongAt(at, `${JSON.stringify(character)} cannot stand there; "\\" may help`);
  return { characters: character, column, end: at + 1, repeats: false };
}

/** What stands between brackets, from `at` to before `end`. */
function readSet(text: string, at: number, end: number): string | PatternError {
  let characters = "";
  for (let next = at; next < end; ) {
    const first = text[next] as string;
    const isRange = text[next + 1] === "-" && next + 2 < end;
    const last = isRange ? (text[next + 2] as string) : first;
    for (const one of [first, last]) {
      if (!literal.test(one)) return wrongAt(next, `${JSON.stringify(one)} cannot stand in [...]`);
    }
    if (isRange && (first > last || !rangeKinds.some((kind) => kind.test(first + last)))) {
      return wrongAt(next, `${first}-${last} is no range`);
    }
    for (let code = first.charCodeAt(0); code <= last.charCodeAt(0); code++) characters += String.fromCharCode(code);
    next += isRange ? 3 : 1;
  }
  if (characters === "") return wrongAt(at - 1, "[...] is empty");
  if (hasTwice(characters)) return wrongAt(at - 1, "[...] has a character twice");
  return characters;
}

function hasTwice(characters: string): boolean {
  return new Set(characters).size < characters.length;
}

/** Columns are counted from 1. */
function wrongAt(at: number, description: string): PatternError {
  return new PatternError(`at ${at + 1}: ${description}`);
}
