/** Cuts a stream of text into lines and parses each as JSON. The sender is trusted: it is a part of this program. */
export class JsonLines<T> {
  #rest = "";
  readonly #onValue: (value: T) => void;

  constructor(onValue: (value: T) => void) {
    this.#onValue = onValue;
  }

  push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#onValue(JSON.parse(line) as T);
    }
  }
}
