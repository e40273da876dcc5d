import { hash, randomBytes } from "node:crypto";
import type { FreshKey } from "../../domain/caller-key.js";
import { keyPrefix } from "../bearer.js";

/** 5 bits in each: without letters and digits that look alike. */
const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
/** 60 bits: who has one by chance has the first of them after a billion keys. */
const idLength = 12;
/** 160 bits: nobody finds it by trying, so that a hash that takes no time is a safe one. */
const secretLength = 32;
const form = new RegExp(`^${keyPrefix}([a-z2-7]{${idLength}})_[a-z2-7]{${secretLength}}$`);

export function freshKey(): FreshKey {
  const id = randomText(idLength);
  const text = `${keyPrefix}${id}_${randomText(secretLength)}`;
  return { id, text, hash: hashOf(text) };
}

/** The public part of what may be a key; undefined: it is none. */
export function idOf(text: string): string | undefined {
  return form.exec(text)?.[1];
}

export function hashOf(text: string): Uint8Array {
  return hash("sha256", text, "buffer");
}

function randomText(length: number): string {
  return Array.from(randomBytes(length), (byte) => alphabet[byte % alphabet.length]).join("");
}
