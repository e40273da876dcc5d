import { createHmac } from "node:crypto";

/** How a user is called in the log. */
export type NameUser = (userId: string) => string;

export const plainUser: NameUser = (userId) => userId;

/** Of 256 bits, as many as no two users share by chance. */
const nameLength = 22;

/** The same name for the same user in all replicas that have the key; without it nobody finds the user by trying. */
export function hashedUser(key: string): NameUser {
  return (userId) => `hmac:${createHmac("sha256", key).update(userId).digest("base64url").slice(0, nameLength)}`;
}
