import { createHash } from "node:crypto";
import { type FieldViolation, invalid, type Refusal } from "../domain/refusal.js";
import type { Page } from "../storage/ports/page.js";

const defaultPageSize = 50;
/** What a list is in the order of: ids, numbers in the order in which things were added, and tiers with ids in them. */
const idKinds = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  number: /^[1-9][0-9]{0,14}$/,
  cursor: /^[12]\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
};

type IdKind = keyof typeof idKinds;

/**
 * Page tokens name what a page comes after and the parameters that the listing was begun with, so that a token cannot be
 * used to go on in another listing. They are opaque, not secret: whoever makes one up gets rows it could list anyway.
 */
export function readPage(
  request: { pageSize: number; pageToken: string },
  parameters: readonly unknown[],
  idKind: IdKind = "uuid",
  sizeByDefault = defaultPageSize,
): Page | Refusal {
  const size = request.pageSize === 0 ? sizeByDefault : request.pageSize;
  if (request.pageToken === "") return { size, before: null };
  const token = tokenOf(request.pageToken, idKind);
  if (!token) return invalid(noToken);
  const { before, hash } = token;
  if (hash !== hashOf(parameters)) {
    return invalid({ field: "page_token", description: "belongs to a listing with other parameters" });
  }
  return { size, before };
}

const noToken = { field: "page_token", description: "is not a next_page_token of this method" };

function tokenOf(pageToken: string, idKind: IdKind): { before: string; hash: string } | undefined {
  const [before, hash, ...rest] = Buffer.from(pageToken, "base64url").toString("latin1").split(" ");
  return before && idKinds[idKind].test(before) && hash && rest.length === 0 ? { before, hash } : undefined;
}

/** What is wrong with a page token whatever the other parameters are. */
export function wrongInPage(idKind: IdKind = "uuid"): (request: { pageToken: string }) => FieldViolation[] {
  return ({ pageToken }) => (pageToken !== "" && !tokenOf(pageToken, idKind) ? [noToken] : []);
}

/** `next`: what the next page comes after; null: there is none. */
export function nextPageToken(next: string | null, parameters: readonly unknown[]): string {
  return next === null ? "" : Buffer.from(`${next} ${hashOf(parameters)}`, "latin1").toString("base64url");
}

function hashOf(parameters: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parameters)).digest("base64url").slice(0, 16);
}
