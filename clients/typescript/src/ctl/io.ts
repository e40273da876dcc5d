/** Where a command reads and writes; the tests have one of their own. */
export interface Io {
  /** Standard output: what was asked for, and nothing else. */
  readonly out: (text: string) => void;
  /** Standard error: what is said to people. */
  readonly say: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether standard output, and standard error, is a terminal; and how wide it is. */
  readonly terminal: boolean;
  readonly sayTerminal: boolean;
  readonly columns: number;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}
