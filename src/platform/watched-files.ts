import { readFileSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";

/** Certificates, keys and lists of names: what is longer is the wrong file. */
const maxBytes = 1024 * 1024;

/** A file by the setting that names it. */
export interface NamedFile {
  readonly setting: string;
  readonly path: string;
}

/** What is wrong with a file while the service runs. Whoever mends it is told what is wrong next. */
export class WrongFile extends Error {
  override readonly name = "WrongFile";
}

/**
 * Files that are read at the start, and again and again, because others exchange them while the service runs. Their text is
 * compared: their time says little where they are links into a folder that is exchanged as a whole, as in Kubernetes.
 */
export class WatchedFiles {
  private texts: readonly string[];

  /** `use` is handed the text of each file, in order. It throws when these are no good; at the start so does this. */
  constructor(
    private readonly files: readonly NamedFile[],
    private readonly use: (texts: readonly string[]) => void,
  ) {
    this.texts = files.map((file) => readNow(file));
    use(this.texts);
  }

  /**
   * Uses them again if they have changed. Throws WrongFile when they cannot be read or are no good, and tries again the next time:
   * somebody may just be about to exchange a second one.
   */
  async check(): Promise<void> {
    try {
      const texts = await Promise.all(this.files.map(read));
      if (texts.every((text, at) => text === this.texts[at])) return;
      this.use(texts);
      this.texts = texts;
    } catch (error) {
      throw new WrongFile((error as Error).message);
    }
  }
}

function readNow(file: NamedFile): string {
  try {
    checkSize(statSync(file.path).size);
    return readFileSync(file.path, "utf8");
  } catch (error) {
    throw unreadable(file, error);
  }
}

async function read(file: NamedFile): Promise<string> {
  try {
    checkSize((await stat(file.path)).size);
    return await readFile(file.path, "utf8");
  } catch (error) {
    throw unreadable(file, error);
  }
}

function checkSize(bytes: number): void {
  if (bytes > maxBytes) throw new Error(`has more than ${maxBytes} bytes`);
}

function unreadable({ setting }: NamedFile, error: unknown): Error {
  return new Error(`${setting}: cannot be read: ${(error as Error).message}`, { cause: error });
}
