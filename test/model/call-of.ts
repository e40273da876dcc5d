import { type Call, isListed, type Target } from "./call.js";
import { type Command, labels } from "./commands.js";
import { type Life, lineOf, pickBook, spelled, targetOf, termsOf } from "./definitions.js";
import { Model } from "./model.js";
import { choicesOf, choose, orderCall, orderOf, pick } from "./orders-of.js";
import { readCall } from "./reads.js";
import type { Definition } from "./state.js";

/** The orders that `useAll` makes by itself are numbered from here on. */
const firstOwnOrder = 10;

/** The call that a command stands for in a life that has come to `model`; null when there is nothing to do it to. */
export function callOf(command: Command, model: Model, life: Life): Call | null {
  const { coupons, usages } = model.state;
  switch (command.kind) {
    case "create":
      return {
        method: "create",
        definition: life.definitionOf(command.facts) as Definition,
        requestId: life.requestId(command.request),
      };
    case "createMany":
      return {
        method: "createMany",
        definitions: command.facts.map((facts) => life.definitionOf(facts) as Definition),
        requestId: life.requestId(command.request),
      };
    case "quote":
    case "lock":
    case "use":
      return orderCall(command, model, life);
    case "unlock": {
      const chosen = choose(model, command.picks);
      const [first] = chosen;
      if (!first) return null;
      // A lock's version cannot be 0 here.
      const choices = choicesOf(model, chosen, command.lock, command.spelling).map((one) => ({
        ...one,
        lockVersion: one.lockVersion || 1,
      }));
      return { method: "unlock", userId: first.userId, choices };
    }
    case "again": {
      const repeatable = life.made.filter((one) => "requestId" in one && one.requestId !== "");
      return repeatable.at(-1 - command.back) ?? null;
    }
    case "cancel": {
      const standing = usages.filter(({ cancelledAt }) => cancelledAt === null);
      const usage = pick(command.usage % 4 > 0 && standing.length > 0 ? standing : usages, command.usage);
      if (!usage) return null;
      const { userId, id, userCouponId } = usage;
      const named = command.byUserCoupon ? { usageId: "", userCouponId } : { usageId: id, userCouponId: "" };
      return { method: "cancel", userId, ...named, requestId: life.requestId(command.request) };
    }
    case "deleteUserCoupon": {
      const [one] = choose(model, [command.pick]);
      if (!one) return null;
      const { restock, deleteUsed } = command;
      const requestId = life.requestId(command.request);
      return { method: "deleteUserCoupon", userId: one.userId, userCouponId: one.id, restock, deleteUsed, requestId };
    }
    case "glance": {
      const list = readCall(command.list, model);
      if (!list || !isListed(list)) return list?.method === "getCoupon" ? list : null;
      // Who holds codes is read after them, and usages after their user coupons.
      if (list.method === "listCodes") return null;
      const whole = list.method === "listUserCoupons" ? { ...list, showUsages: false } : list;
      return { method: "page", list: whole, size: 100, token: "", after: null };
    }
    case "read":
      return readCall(command, model);
    case "release":
    case "expireCodes":
    case "expire":
      return { method: command.kind };
    case "purge":
      return { method: "purge", dryRun: command.dryRun };
    case "upload": {
      const { to } = command;
      const book = "book" in to ? pickBook(model, to.book) : null;
      if ("book" in to && !book) return null;
      const target = "type" in to ? to : { couponId: book?.id ?? "" };
      const lines = command.lines.map((one) => lineOf(one, "type" in to, model, life));
      return { method: "upload", target, lines, requestId: life.requestId(command.request) };
    }
    case "generate": {
      const book = pickBook(model, command.book);
      const stem = life.code(`g${command.stem}-`);
      // Two jobs under way would draw from the same codes.
      if (!book || model.state.jobs.some((job) => job.stem === stem && job.endedAt === null)) return null;
      const { characters, count } = command;
      const requestId = life.requestId(command.request);
      const terms = termsOf(command.terms, book.isTypePool, model);
      return { method: "generate", couponId: book.id, stem, characters, count, terms, requestId };
    }
    case "cancelJob": {
      const { jobs } = model.state;
      const running = jobs.filter(({ endedAt }) => endedAt === null);
      const job = pick(command.job % 4 > 0 && running.length > 0 ? running : jobs, command.job);
      return job ? { method: "cancelJob", jobId: job.id, requestId: life.requestId(command.request) } : null;
    }
    case "deleteCodes":
      return deleteCodesCall(command, model, life);
    case "runGenerator": {
      const jobs = model.state.jobs.filter(({ endedAt }) => endedAt === null);
      return { method: "runGenerator", jobs: jobs.map(({ id, couponId }) => ({ id, couponId })) };
    }
    case "issue": {
      const target = targetOf(command.by, model, life);
      if (!target) return null;
      const issue = issueCall(target, life.userId(command.user), life.requestId(command.request));
      const isBlind = "code" in target && command.isBlind === true;
      return { ...issue, labels: labels[command.labels ?? 0] ?? "", ...(isBlind && { isBlind }) } as Call;
    }
    case "update":
    case "pause":
    case "resume":
    case "delete": {
      const target = pick(coupons, command.coupon);
      if (!target) return null;
      const [couponId, requestId] = [target.id, life.requestId(command.request)];
      if (!("revision" in command)) return { method: command.kind, couponId, requestId };
      const revision = { any: 0, current: target.revision, stale: target.revision + 1 }[command.revision];
      if (command.kind === "delete") return { method: "delete", couponId, revoke: command.revoke, revision, requestId };
      return { method: "update", couponId, revision, change: life.definitionOf(command.change), requestId };
    }
    default:
      return null;
  }
}

const longMethods = ["deleteCodes", "release", "expire", "expireCodes"];

/** The calls that are made at once. */
export function crowdOf(command: Command, model: Model, life: Life): Call[] {
  const { coupons, userCoupons } = model.state;
  switch (command.kind) {
    case "crowd": {
      const scope = command.about === null ? model : focus(model, command.about);
      const all = command.commands.flatMap((one) => callOf(inCrowd(one), scope, life) ?? []);
      // The pool of a type is there some time before what opens it is done, or refused.
      const opens = (one: Call) => one.method === "upload" && "type" in one.target;
      const isOpening = all.some(opens);
      const isOfAll = (one: Call) => one.method === "page" && one.list.method === "listCoupons";
      // They read the clock several times: a round makes several steps, a pool comes before its codes, and the event of what is
      // deleted may come before its record.
      const readsTwice = (one: Call) => longMethods.includes(one.method) || opens(one);
      const isOfTwoTimes = (one: Call) => command.meanwhile === "step" && readsTwice(one);
      const calls = all.filter((one) => !(isOpening && isOfAll(one)) && !isOfTwoTimes(one));
      return command.doubled ? [...calls, ...structuredClone(calls.slice(0, 1))] : calls;
    }
    case "rush": {
      const target = pick(coupons, command.coupon);
      if (!target) return [];
      return command.users.map((user) => issueCall({ couponId: target.id }, life.userId(user)));
    }
    case "batch": {
      const target = pick(coupons, command.coupon);
      if (!target) return [];
      const userIds = [...new Set(command.users)].map((user) => life.userId(user));
      const requestId = life.requestId(command.request);
      // Each user has a request id of its own, which no other call can name.
      return userIds.map((userId) => ({
        ...issueCall({ couponId: target.id }, userId, requestId && `batch ${requestId} ${userId}`),
        labels: labels[command.labels] ?? "",
      }));
    }
    case "codeRush": {
      const target = targetOf({ code: command.code, spelling: 0 }, model, life);
      return target ? command.users.map((user) => issueCall(target, life.userId(user))) : [];
    }
    case "typeRush":
      return command.users.map((user) => issueCall({ type: command.type }, life.userId(user)));
    case "groupRush": {
      const grouped = coupons.filter(({ quota }) => quota !== null);
      const group = pick(grouped, command.coupon)?.quota?.group;
      const members = grouped.filter(({ quota }) => quota?.group === group);
      return command.picks.flatMap((index) => {
        const target = pick(members, index);
        return target ? [issueCall({ couponId: target.id }, life.userId(command.user))] : [];
      });
    }
    case "useAll": {
      const target = pick(coupons, command.coupon);
      const held = userCoupons.filter((one) => one.couponId === target?.id && one.deletedAt === null);
      // Of one order by user, or each of an order of its own.
      const orderOfNth = (n: number) => (command.coupon % 2 === 0 ? 0 : firstOwnOrder + n);
      return held.map((one, n) => ({
        method: "use",
        order: orderOf(model, [one], "own", 2, orderOfNth(n)),
        requestId: "",
      }));
    }
    default:
      return [];
  }
}

function deleteCodesCall(command: Command & { kind: "deleteCodes" }, model: Model, life: Life): Call | null {
  const book = pickBook(model, command.book);
  if (!book) return null;
  const { codes, jobs, uploads } = model.state;
  const requestId = life.requestId(command.request);
  const target = command.byType && book.isTypePool && book.type ? { type: book.type } : { couponId: book.id };
  const of = { method: "deleteCodes" as const, target, requestId };
  if ("codes" in command.which) {
    const { codes: picks, spelling } = command.which;
    // 0: one of any coupon.
    const named = picks.map((one) => pick(one === 0 ? codes : model.codesOf(book.id), one)?.code ?? life.code("none"));
    return { ...of, which: { codes: named.map((code) => spelled(code, spelling)) } };
  }
  const { source } = command.which;
  // -1: those of the last job; -2: of the last upload.
  const all = [
    ...uploads.map((one) => ({ ...one, kind: "upload" as const })),
    ...jobs.map((one) => ({ ...one, kind: "job" as const })),
  ];
  const own = all.filter(({ couponId }) => couponId === book.id);
  const chosen =
    source === -2 ? pick(all.slice(0, uploads.length), -1) : pick(source % 5 > 0 && own.length > 0 ? own : all, source);
  if (!chosen) return null;
  return {
    ...of,
    ...(source < 0 && { target: { couponId: chosen.couponId } }),
    which: { kind: chosen.kind, id: chosen.id },
  };
}

function issueCall(target: Target, userId: string, requestId = ""): Call & { method: "issue" } {
  return { method: "issue", target, userId, requestId };
}

/** Which user coupon a code means is decided before the rest of the call; in a crowd another one may be meant then. */
function inCrowd(command: Command): Command {
  return "spelling" in command ? { ...command, spelling: null } : command;
}

/** The world as if there were one user coupon only. */
function focus(model: Model, about: number): Model {
  const [one] = choose(model, [about]);
  if (!one) return model;
  const { state } = model;
  return new Model({
    ...state,
    userCoupons: [one],
    coupons: [model.coupon(one.couponId)],
    usages: state.usages.filter((usage) => usage.userCouponId === one.id),
  });
}
