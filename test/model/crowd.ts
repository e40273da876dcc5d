import { isDeepStrictEqual } from "node:util";
import { madeBy } from "./calls.js";
import { type Answer, type Call, type Expected, type Model, standingReasons } from "./model.js";

/** Orders looked at before a crowd counts as not to be explained. */
const maxSteps = 20_000;

/**
 * Whether what a crowd was answered, and what was stored, can be explained: is there an order in which the calls, made
 * one after the other, get these answers and leave these facts? Answers the model after them, or null.
 */
export function explain(
  before: Model,
  calls: readonly Call[],
  answers: readonly Answer[],
  isStored: (model: Model) => boolean,
): Model | null {
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
      const expected = after.apply(call, madeBy(answer));
      const unchanged = isDeepStrictEqual(after.state, model.state);
      if (!isAnswer(answer, expected) && !(unchanged && isTurnedAway(call, answer, before, calls, answers))) continue;
      // What changes nothing may as well come now.
      if (unchanged)
        return search(
          model,
          left.filter((one) => one !== index),
        );
      changing.push({ index, after });
    }
    if (left.length === 0) return isStored(model) ? model : null;
    for (const { index, after } of changing) {
      const found = search(
        after,
        left.filter((one) => one !== index),
      );
      if (found) return found;
    }
    return null;
  };
  const turnedAway = calls.flatMap((call, index) =>
    isTurnedAway(call, answers[index] as Answer, before, calls, answers) ? [index] : [],
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

/** Alone, a call gets exactly the answer that is expected. In a crowd there are two ways to say no, and less to say yes. */
function isAnswer(answer: Answer, expected: Expected): boolean {
  const { or, ...first } = expected;
  return [first, ...(or ? [or] : [])].some(
    (one) => isDeepStrictEqual(inCrowd(answer), inCrowd(one)) || isDeepStrictEqual(inCrowd(answer), whenStored(one)),
  );
}

/** What was issued or used before is read once more, and may have changed by then. */
function inCrowd({ retryMs: _, ...answer }: Answer): Answer {
  if (answer.refused || !answer.replayed) return answer;
  const usages = answer.usages as { id: string; discount: number }[] | undefined;
  return { id: answer.id, usages: usages?.map(({ id, discount }) => ({ id, discount })), total: answer.total };
}

/** An order that is refused while it is stored is told the first reason against each choice that is checked there. */
function whenStored({ against, ...answer }: Answer): Answer {
  if (!against) return answer;
  const firsts = against.map((reasons) => reasons.filter((one) => standingReasons.includes(one)).slice(0, 1));
  return { refused: firsts.flat()[0] as string, against: firsts };
}

/**
 * The gate turns away those that come while others hold what is left, also when those others fail later. That is only
 * right while there are more callers than there is left, and some of the others did fail.
 */
function isTurnedAway(
  call: Call,
  answer: Answer,
  before: Model,
  calls: readonly Call[],
  answers: readonly Answer[],
): boolean {
  if (call.method === "issue" && answer.refused === "SOLD_OUT") {
    const { couponId } = call;
    const others = calls.map((one, index) => ({
      one,
      refused: answers[index]?.refused,
      replayed: answers[index]?.replayed,
    }));
    const rivals = others.filter(({ one }) => one.method === "issue" && one.couponId === couponId);
    const { quantity, issuedCount } = before.coupon(couponId);
    const failed = rivals.some(
      ({ refused, replayed }) => replayed || (refused !== undefined && refused !== "SOLD_OUT"),
    );
    return failed && quantity !== null && rivals.length > quantity - issuedCount;
  }
  if (call.method !== "use" || answer.refused !== "USAGE_CAP_REACHED") return false;
  if (answer.against?.flat().some((reason) => reason !== "USAGE_CAP_REACHED")) return false;
  const couponsOf = (one: Call) =>
    one.method === "use"
      ? one.order.choices.map(({ id }) => before.state.userCoupons.find((held) => held.id === id)?.couponId)
      : [];
  const wanted = new Set(couponsOf(call).filter((_, index) => answer.against?.[index]?.length));
  return [...wanted].every((couponId) => {
    const rivals = calls.flatMap((one, index) =>
      couponsOf(one)
        .filter((id) => id === couponId)
        .map(() => answers[index] as Answer),
    );
    const failed = rivals.some(
      (one) => one.replayed || (one.refused && one !== answer && one.refused !== "USAGE_CAP_REACHED"),
    );
    const sameRequest = calls.some(
      (one) => one !== call && one.method === "use" && one.requestId !== "" && one.requestId === call.requestId,
    );
    const target = couponId === undefined ? undefined : before.coupon(couponId);
    const many = calls.some((one) => one.method === "use" && one.order.choices.length > 1);
    return target !== undefined && (failed || sameRequest || many) && rivals.length > before.placesLeft(target);
  });
}
