import { isDeepStrictEqual } from "node:util";
import { type Answer, type Call, type Expected, isDoneAnew } from "./call.js";
import type { Model } from "./model.js";

/** Orders looked at before a crowd counts as not to be explained. */
const maxSteps = 20_000;
/** The reasons that a use is checked for once more when it is stored. */
const statusReasons = [
  "USER_COUPON_NOT_FOUND",
  "CODE_NOT_FOUND",
  "USER_COUPON_RELEASED",
  "ALREADY_USED",
  "USER_COUPON_REVOKED",
  "USAGE_CAP_REACHED",
  "USER_COUPON_EXPIRED",
  "LOCKED",
  "LOCK_LOST",
];
const rounds = ["release", "expire", "expireCodes"];
const gateReason = "USAGE_CAP_REACHED";

/** What is stored after a crowd. */
export interface Outcome {
  isThatOf(model: Model): boolean;
  /** By user coupon. */
  readonly lockVersions: ReadonlyMap<string, number>;
}

/**
 * Whether what a crowd was answered, and what was stored, can be explained: is there an order in which the calls, made
 * one after the other, get these answers and leave these facts? Answers the model after them, or null.
 */
export function explain(
  before: Model,
  told: readonly Call[],
  toldAnswers: readonly Answer[],
  stored: Outcome,
): Model | null {
  // The first call of who has asked again comes as one of its own, at any time or not at all. Nobody heard what it was answered.
  const untold = told.filter((call, index) => isDoneAnew(call) && toldAnswers[index]?.isRetold);
  const locks = [...stored.lockVersions].map(([id, version]) => ({ id, version }));
  const calls = [...told, ...untold];
  const answers = [...toldAnswers, ...untold.map((): Answer => ({ isUntold: true, locks }))];
  const seen = new Set<string>();
  let steps = 0;
  const search = (model: Model, left: readonly number[]): Model | null => {
    const key = `${left} ${JSON.stringify(model.state)}`;
    if (seen.has(key) || ++steps > maxSteps) return null;
    seen.add(key);
    const changing: { index: number; after: Model }[] = [];
    for (const index of left) {
      const [call, answer] = [calls[index] as Call, answers[index] as Answer];
      const after = model.clone();
      const expected = after.apply(named(call, answer, model), answer);
      const unchanged = isDeepStrictEqual(after.state, model.state);
      if (!isAnswer(answer, expected) && !(unchanged && isTurnedAway(call, answer, before, told, toldAnswers)))
        continue;
      // What changes nothing may as well come now, unless nobody is told what it has changed.
      if (unchanged && answer.isUntold) continue;
      if (unchanged && !rounds.includes(call.method))
        return search(
          model,
          left.filter((one) => one !== index),
        );
      changing.push({ index, after });
    }
    if (left.every((index) => answers[index]?.isUntold) && stored.isThatOf(model)) return model;
    for (const { index, after } of changing) {
      const found = search(
        after,
        left.filter((one) => one !== index),
      );
      if (found) return found;
    }
    return null;
  };
  const turnedAway = told.flatMap((call, index) =>
    isTurnedAway(call, answers[index] as Answer, before, told, toldAnswers) ? [index] : [],
  );
  const all = calls.map((_, index) => index);
  // Nobody is turned away for nothing if there is another explanation.
  return (
    search(before, all) ??
    search(
      before,
      all.filter((index) => !turnedAway.includes(index)),
    )
  );
}

/**
 * Of a type any coupon that can be issued may be: which ones were tried is not decided in one moment. One that was issued
 * is held to the rules of its coupon.
 */
function named(call: Call, answer: Answer, model: Model): Call {
  if (call.method !== "issue" || !("type" in call.target) || answer.refused) return call;
  const couponId = String(answer.couponId);
  return model.coupon(couponId)?.type === call.target.type ? { ...call, target: { couponId } } : call;
}

/** Alone, a call gets exactly the answer that is expected. In a crowd there are two ways to say no, and less to say yes. */
function isAnswer(answer: Answer, expected: Expected): boolean {
  const { or, ...first } = expected;
  if (answer.isUntold) return true;
  return [first, ...(or ?? [])].some(
    (one) =>
      isDeepStrictEqual(inCrowd(answer), inCrowd(answer.isRetold ? retold(answer, one) : one)) ||
      isDeepStrictEqual(inCrowd(answer), whenStored(one)) ||
      isSaidAtGate(answer, one),
  );
}

/** What was issued or used before is read once more, and may have changed by then. */
function inCrowd({ retryMs: _, isRetold: __, ...answer }: Answer): Answer {
  if (answer.refused || !answer.replayed) return answer;
  const usages = answer.usages as { id: string; discount: number }[] | undefined;
  return { id: answer.id, usages: usages?.map(({ id, discount }) => ({ id, discount })), total: answer.total };
}

/** Whose first call was done, and did not say so, is told as one who repeats it. */
function retold({ replayed }: Answer, expected: Answer): Answer {
  return replayed && expected.replayed === false ? { ...expected, replayed } : expected;
}

/** An order that is refused while it is stored is told the first reason against each choice that is checked there. */
function whenStored({ against, ...answer }: Answer): Answer {
  if (!against) return answer;
  const firsts = against.map((reasons) => reasons.filter((one) => statusReasons.includes(one)).slice(0, 1));
  return { refused: firsts.flat()[0] as string, against: firsts };
}

/** The gate knows of one reason only, which need not be the first. */
function isSaidAtGate(answer: Answer, { against }: Answer): boolean {
  const isSaid = (reasons: readonly string[], index: number) =>
    reasons.length === 0 || (reasons.join() === gateReason && against?.[index]?.includes(gateReason));
  return answer.refused === gateReason && (answer.against?.every(isSaid) ?? false) && against !== undefined;
}

/**
 * Uses are turned away while others hold the places that are left, also when those others get nothing in the end. That is
 * only right while there are more callers than there is left, and some of the others did get nothing; or if the same request
 * is on its way twice. An issue never is: SOLD_OUT is said when nothing is left in Postgres, and so in some order of the calls.
 */
function isTurnedAway(
  call: Call,
  answer: Answer,
  before: Model,
  calls: readonly Call[],
  answers: readonly Answer[],
): boolean {
  const others = calls.flatMap((one, index) => (one === call ? [] : [{ call: one, answer: answers[index] as Answer }]));
  // Of one that was asked for again, the first call may have been in the way, and done nothing.
  const idle = (one: Answer) =>
    one.isRetold || one.replayed === true || (one.refused !== undefined && one.refused !== answer.refused);
  /** The lowest that it is while the crowd is there. */
  const lowestCap = (couponId: string) => {
    const edits = calls.flatMap((one) =>
      one.method === "update" && one.couponId === couponId ? [one.change.usageCap] : [],
    );
    const now = before.coupon(couponId).usageCap;
    return Math.min(...[now, ...edits].map((value) => value ?? Number.POSITIVE_INFINITY));
  };
  if (call.method === "issue" && "type" in call.target) {
    const asked = calls.flatMap((one, index) => (answers[index]?.isRetold ? [one, one] : [one]));
    return isPassedOver(call, answer, before, asked);
  }
  // The pool that was found was deleted before the codes came into it.
  if (call.method === "upload" && "type" in call.target)
    return answer.refused === "COUPON_NOT_FOUND" && calls.some(({ method }) => method === "delete");
  if (call.method !== "use") return false;
  const isTwin = (one: Call) => one.method === "use" && call.requestId !== "" && one.requestId === call.requestId;
  const hasTwin = others.some((one) => isTwin(one.call));
  // An order that another one with the same request id has overtaken half-way is rolled back.
  if (answer.refused === "STORE_UNAVAILABLE") return hasTwin;
  if (answer.refused !== gateReason || answer.against?.flat().some((reason) => reason !== gateReason)) return false;
  const couponsOf = (one: Call) =>
    one.method === "use"
      ? one.order.choices.map(({ id }) => before.state.userCoupons.find((held) => held.id === id)?.couponId ?? "")
      : [];
  return couponsOf(call).every((couponId, index) => {
    if (answer.against?.[index]?.length === 0) return true;
    const rivals = [...others, { call, answer }].filter((one) => couponsOf(one.call).includes(couponId));
    const asked = rivals.flatMap((one) => (one.answer.isRetold ? [one, one] : [one]));
    const wanted = asked.flatMap((one) => couponsOf(one.call).filter((id) => id === couponId)).length;
    const left = lowestCap(couponId) - before.placesTaken(before.coupon(couponId));
    const isSplit = (one: { call: Call; answer: Answer }) =>
      one.answer.refused !== undefined && couponsOf(one.call).length > 1;
    return wanted > left && (hasTwin || rivals.some((one) => idle(one.answer) || isSplit(one)));
  });
}

const passing = ["COUPON_NOT_FOUND", "COUPON_PAUSED", "COUPON_NOT_STARTED", "COUPON_ENDED", "USAGE_CAP_REACHED"];
passing.push("ALREADY_ISSUED", "QUOTA_REACHED", "SOLD_OUT");

/**
 * One that is issued by type looks at one coupon after the other, while others come and go. It leaves with nothing only if
 * they can have taken all that it could have had, or if what it could have had was there for a part of the time.
 */
function isPassedOver(
  call: Call & { method: "issue" },
  answer: Answer,
  before: Model,
  calls: readonly Call[],
): boolean {
  if (!answer.refused || !passing.includes(answer.refused) || !("type" in call.target)) return false;
  const { type } = call.target;
  const isIssue = (one: Call) => one.method === "issue";
  if (!calls.every(isIssue)) return true;
  const open = before.state.coupons.filter(
    (coupon) => coupon.type === type && before.issueRefusal(coupon, call.userId) === undefined,
  );
  return open.every((coupon) => {
    const left = (before.quantityOf(coupon) ?? Number.POSITIVE_INFINITY) - coupon.issuedCount;
    const quotaLeft = (coupon.quota?.maxPerDay ?? Number.POSITIVE_INFINITY) - before.issuedToday(coupon, call.userId);
    const perUser = coupon.maxPerUser - before.liveCount(coupon.id, call.userId);
    const ofUser = calls.filter((one) => one.method === "issue" && one.userId === call.userId).length;
    return calls.length > left || ofUser > Math.min(quotaLeft, perUser);
  });
}
