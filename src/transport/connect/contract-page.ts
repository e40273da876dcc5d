import { createHash } from "node:crypto";
import type { PlainPages } from "./pages.js";

/** `/coupon.binpb`: the contract, which tools make clients of. Who has it already is told so. */
export function contractPage(contract: Buffer): PlainPages {
  const etag = `"${createHash("sha256").update(contract).digest("base64url")}"`;
  return (path, response) => {
    if (path !== "/coupon.binpb") return false;
    const { method, headers } = response.req;
    // A new release has another one under the same name.
    const common = { etag, "cache-control": "no-cache" };
    if (method !== "GET" && method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD", "content-type": "text/plain" });
      response.end("This page is to be got: GET /coupon.binpb.\n");
    } else if (isKnown(headers["if-none-match"], etag)) {
      response.writeHead(304, common);
      response.end();
    } else {
      const type = { "content-type": "application/octet-stream", "content-length": contract.length };
      response.writeHead(200, { ...common, ...type });
      response.end(method === "GET" ? contract : "");
    }
    return true;
  };
}

/** A proxy that compresses what it passes on makes a tag a weak one. */
function isKnown(tags: string | undefined, etag: string): boolean {
  return (tags ?? "").split(",").some((tag) => tag.trim() === "*" || tag.trim().replace(/^W\//, "") === etag);
}
