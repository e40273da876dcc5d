import { CommanderError } from "commander";
import { ConnectError, type Reason, type Refusal, refusalOf, StatusCode } from "../node.js";

/** How a command ends. The README has the same table. */
export const exitCode = { ok: 0, refused: 1, usage: 2, unavailable: 3, denied: 4, interrupted: 130 } as const;

/** What was asked for cannot be understood: a flag, a file, a setting. */
export class UsageError extends Error {}

/** The answer was no, and it has been said. */
export class Told extends Error {
  constructor(readonly code: number) {
    super("told");
  }
}

const away: readonly Reason[] = ["OVERLOADED", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"];
const denied: readonly Reason[] = ["UNAUTHENTICATED", "PERMISSION_DENIED"];
const awayCodes: readonly StatusCode[] = [
  StatusCode.Unavailable,
  StatusCode.DeadlineExceeded,
  StatusCode.Internal,
  StatusCode.Unknown,
];
const deniedCodes: readonly StatusCode[] = [StatusCode.Unauthenticated, StatusCode.PermissionDenied];

/** What is said of a failure, and how the program ends. Undefined: it is a bug of this program. */
export function failureOf(error: unknown, signal: AbortSignal): { code: number; text: string } | undefined {
  // It has been said already.
  if (error instanceof CommanderError) return { code: error.exitCode === 0 ? 0 : exitCode.usage, text: "" };
  if (error instanceof Told) return { code: error.code, text: "" };
  if (signal.aborted) return { code: exitCode.interrupted, text: "" };
  if (error instanceof UsageError) return { code: exitCode.usage, text: error.message };
  const refusal = refusalOf(error);
  if (refusal) return { code: codeOf(refusal), text: described(refusal) };
  if (!(error instanceof ConnectError)) return undefined;
  if (deniedCodes.includes(error.code)) return { code: exitCode.denied, text: error.rawMessage };
  const code = awayCodes.includes(error.code) ? exitCode.unavailable : exitCode.refused;
  return { code, text: `${StatusCode[error.code]}: ${error.rawMessage}${code === exitCode.unavailable ? advice : ""}` };
}

const advice = "\n  `couponctl doctor` finds out what is wrong";

function codeOf({ reason }: Refusal): number {
  if (away.includes(reason)) return exitCode.unavailable;
  return denied.includes(reason) ? exitCode.denied : exitCode.refused;
}

function described(refusal: Refusal): string {
  const { reason, message, metadata, fieldViolations, preconditions, retryAfterMs, faultId } = refusal;
  const more = [
    ...fieldViolations.map(({ field, description }) => `${field || "(request)"}: ${description}`),
    ...preconditions.map(({ field, reason: each, description }) => `${field}: ${each}: ${description}`),
    ...Object.entries(metadata).map(([name, value]) => `${name}: ${value}`),
    ...(retryAfterMs === undefined ? [] : [`again in ${(retryAfterMs / 1_000).toFixed(1)} s`]),
    ...(faultId === undefined ? [] : [`in the service's log: ${faultId}`]),
  ];
  return [`${reason}: ${fieldViolations.length > 0 ? "the request is wrong" : message}`, ...more].join("\n  ");
}
