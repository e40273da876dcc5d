import { join } from "node:path";
import type { Config } from "../../config.js";
import { packageRoot } from "../../platform/package-root.js";
import { noPages, type PlainPages } from "../../transport/connect/pages.js";
import { type CallPort, openDocs } from "../../transport/docs/docs.js";

/** The pages that say what the API is. The build makes the document; a service without it does not start. */
export async function docsPages({ DOCS }: Config, calls?: CallPort): Promise<PlainPages> {
  return DOCS === "on" ? await openDocs(join(packageRoot(), "dist/openapi.json"), calls) : noPages;
}
