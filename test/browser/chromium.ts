import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The one that CHROMIUM names, or as the system has it, or undefined. */
export const chromiumPath = [
  ...(process.env.CHROMIUM ? [process.env.CHROMIUM] : []),
  ...(process.env.PATH ?? "").split(delimiter).flatMap((folder) => names.map((name) => join(folder, name))),
].find((path) => existsSync(path));
/** Only what hangs takes so long. */
const startTimeoutMs = 120_000;

export function startChromium(): Promise<Browser> {
  // Its sandbox needs rights that a container does not give; what it shows here is our own.
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  return chromium.launch({ executablePath: chromiumPath as string, args, timeout: startTimeoutMs });
}
