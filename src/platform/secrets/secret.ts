import { inspect } from "node:util";

/**
 * A password, or what has one in it. It cannot be printed by mistake: a log line, an error or a debugger that is given an object
 * with it in shows a word in its place.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** Only for what is to use it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return shown;
  }

  toJSON(): string {
    return shown;
  }

  [inspect.custom](): string {
    return shown;
  }
}

const shown = "[secret]";
