import type { Answer, Call } from "./call.js";
import type { Code, Coupon, CouponType, Definition, Terms } from "./state.js";
import { Using } from "./using.js";
import { newestFirst } from "./world.js";

const visible = /^[!-~]([ -~]*[!-~])?$/;
const maxCodeLength = 64;
const megadealThrottle = { maxConcurrent: 5, maxPerSecond: 10, maxWaitMs: 10_000 };
/** The pool of a type never ends by itself: its codes do. */
const typePoolEnd = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/** Coupons, and the codes of code books. */
export class Catalogue extends Using {
  protected create(definition: Definition, id: string): Answer {
    if (definition.expiresAt <= (definition.startsAt ?? this.state.now)) return { refused: "INVALID_FIELD" };
    this.addCoupon(definition, id, false);
    return this.couponView(this.coupon(id));
  }

  /** Each on its own, and all on record as one. */
  protected createMany(call: Call & { method: "createMany" }, told: readonly Answer[]): Answer {
    const outcomes = call.definitions.map((definition, index) =>
      this.create(definition, String(told[index]?.id ?? "?")),
    );
    const couponIds = outcomes.flatMap((one) => ("id" in one ? [String(one.id)] : []));
    const createdCount = couponIds.length;
    this.onRecord(call, "", null, { createdCount, refusedCount: outcomes.length - createdCount, couponIds });
    return { outcomes };
  }

  /** `edit` answers what changes, null for nothing, or a refusal. */
  protected change(
    call: Call & { couponId: string; requestId: string },
    revision: number,
    edit: (current: Coupon) => Partial<Coupon> | string | null,
  ): Answer {
    const { couponId } = call;
    return this.once(call, () => this.administered(call, couponId, () => this.changeCoupon(couponId, revision, edit)));
  }

  /** A coupon is on record as it was before and after, also when nothing has changed. */
  protected administered(call: Call & { requestId: string }, couponId: string, work: () => Answer): Answer {
    const coupon = this.coupon(couponId);
    const before = coupon ? { coupon: this.couponView(coupon) } : null;
    const answer = work();
    if (!answer.refused) this.onRecord(call, couponId, before, { coupon: answer });
    return answer;
  }

  private addCoupon(definition: Definition, id: string, isTypePool: boolean): void {
    const none = { pausedAt: null, deletedAt: null, revokedAt: null, exhaustedAt: null };
    const updatedAt = this.state.now;
    this.state.coupons.push({
      ...whole(definition, updatedAt),
      ...none,
      id,
      isTypePool,
      revision: 1,
      createdAt: updatedAt,
      updatedAt,
      issuedCount: 0,
    });
    this.happened("COUPON_CREATED", id);
  }

  private changeCoupon(
    id: string,
    revision: number,
    edit: (current: Coupon) => Partial<Coupon> | string | null,
  ): Answer {
    const current = this.coupon(id);
    if (current.deletedAt !== null) return { refused: "COUPON_NOT_FOUND" };
    if (revision !== 0 && revision !== current.revision) return { refused: "STALE_REVISION" };
    const changed = edit(current);
    if (typeof changed === "string") return { refused: changed };
    if (changed) this.revise(id, changed);
    return this.couponView(this.coupon(id));
  }

  protected revise(id: string, changed: Partial<Coupon>): void {
    this.setCoupon(id, { ...changed, revision: this.coupon(id).revision + 1, updatedAt: this.state.now });
  }

  /** Whatever the coupon is now. */
  protected isWrong({ startsAt, expiresAt }: Partial<Definition>): boolean {
    return startsAt === null || (startsAt !== undefined && expiresAt !== undefined && expiresAt <= startsAt);
  }

  protected edit(current: Coupon, change: Partial<Definition>): Partial<Coupon> | string {
    const wanted = { ...current, ...change, ...whole({ ...current, ...change }, this.state.now) };
    const places = this.placesTaken(current);
    if (wanted.quota?.group !== current.quota?.group) return "INVALID_FIELD";
    if (current.isTypePool && (wanted.type !== current.type || "discount" in change)) return "INVALID_FIELD";
    if (current.book !== null && "quantity" in change) return "INVALID_FIELD";
    if (wanted.expiresAt <= wanted.startsAt) return "INVALID_FIELD";
    if (wanted.quantity !== null && wanted.quantity < current.issuedCount) return "QUANTITY_BELOW_ISSUED";
    if (wanted.usageCap !== null && wanted.usageCap < places) return "USAGE_CAP_BELOW_USED";
    this.happened("COUPON_UPDATED", current.id);
    // Only another cap can make a coupon exhausted, or end that.
    if (wanted.usageCap === current.usageCap) return wanted;
    const reached = wanted.usageCap !== null && places >= wanted.usageCap;
    return { ...wanted, exhaustedAt: reached ? (current.exhaustedAt ?? this.state.now) : null };
  }

  // Codes.

  protected upload(call: Call & { method: "upload" }, typePoolId: string, uploadId: string): Answer {
    const { target, lines } = call;
    const book = "type" in target ? this.openTypePool(target.type, typePoolId) : this.coupon(target.couponId);
    const refused = this.bookRefusal(book);
    if (refused) return { refused };
    const keys = new Set(this.state.codes.map((code) => this.keyOf(code)));
    const rejected: { line: number; problem: string }[] = [];
    lines.forEach(({ code, terms }, index) => {
      const key = this.codeKey(code, book.book);
      const isGood = isCode(code) && this.areGood(terms, book);
      if (isGood && !keys.has(key)) this.addCode(book.id, code, terms, uploadId);
      else rejected.push({ line: index + 1, problem: isGood ? "DUPLICATE" : "INVALID" });
      if (isGood) keys.add(key);
    });
    const added = lines.length - rejected.length;
    const duplicateCount = rejected.filter(({ problem }) => problem === "DUPLICATE").length;
    const counts = { addedCount: added, duplicateCount, invalidCount: rejected.length - duplicateCount };
    this.onRecord(call, book.id, null, { ...(added > 0 && { uploadId }), ...counts });
    if (added > 0) {
      this.revise(book.id, {});
      this.codesHappened("CODES_UPLOADED", book.id, added);
      this.state.uploads.push({ id: uploadId, couponId: book.id });
    }
    return { couponId: book.id, added, rejected, uploadId: added > 0 ? uploadId : "" };
  }

  protected bookRefusal({ deletedAt, book }: Coupon): string | null {
    if (deletedAt !== null) return "COUPON_NOT_FOUND";
    return book === null ? "NOT_A_CODE_BOOK" : null;
  }

  protected areGood({ discount, expiresAt, maxUses, maxHolders }: Terms, { isTypePool }: Coupon): boolean {
    if (isTypePool && (discount === null || expiresAt === null)) return false;
    if (expiresAt !== null && expiresAt <= this.state.now) return false;
    return (maxUses === null || (maxUses >= 1 && maxUses <= 1_000)) && maxHolders >= 1 && maxHolders <= 1_000_000;
  }

  protected addCode(couponId: string, code: string, terms: Terms, source: string): void {
    const number = ++this.state.lastCode;
    this.state.codes.push({
      ...terms,
      number,
      couponId,
      code,
      source,
      createdAt: this.state.now,
      holders: 0,
      outOfStockAt: null,
    });
  }

  protected typePool(type: CouponType): Coupon | undefined {
    return this.state.coupons.find((one) => one.isTypePool && one.type === type && one.deletedAt === null);
  }

  /** The pool of a type; the first upload makes it. */
  openTypePool(type: CouponType, id: string): Coupon {
    const known = this.typePool(type);
    if (known) return known;
    const pool: Definition = {
      name: `${type} codes`,
      description: `Codes that were uploaded for the type ${type}, and for no coupon`,
      ...{ category: "", labels: "" },
      discount: { kind: "percentage", value: 1, currency: null, maximum: null, minimum: null },
      startsAt: this.state.now,
      expiresAt: typePoolEnd,
      quantity: null,
      validityMs: null,
      maxPerUser: 100,
      usageCap: null,
      stackable: false,
      maxUses: 1,
      lockMs: 300_000,
      claimMs: null,
      type,
      throttle: null,
      quota: null,
      book: "folded",
    };
    this.addCoupon(pool, id, true);
    const made = this.coupon(id);
    this.onRecord({ method: "upload", requestId: "" }, id, null, { coupon: this.couponView(made) });
    return made;
  }

  /** Every word is the beginning of one of its texts: first come those of which the name has all. Of equals the newest come first. */
  protected search(call: Call & { method: "searchCoupons" }): Answer {
    const { query, type, category, discountKind, showEnded } = call;
    const hasAll = (text: string) => {
      const parts = text.toLowerCase().split(" ");
      return words.every((word) => parts.some((part) => part.startsWith(word)));
    };
    const words = query.split(" ").filter((word) => word !== "");
    const found = this.state.coupons.filter(
      (one) =>
        !one.isTypePool &&
        one.deletedAt === null &&
        (type === null || one.type === type) &&
        (category === "" || one.category.toLowerCase() === category.toLowerCase()) &&
        (discountKind === null || one.discount.kind === discountKind) &&
        (showEnded || one.expiresAt > this.state.now) &&
        hasAll(`${one.name} ${one.category} ${one.description}`),
    );
    const isFirst = ({ name }: Coupon) => hasAll(name);
    const ranked = [...newestFirst(found.filter(isFirst)), ...newestFirst(found.filter((one) => !isFirst(one)))];
    return { coupons: ranked.map((one) => this.couponView(one)) };
  }

  protected listCodes(couponId: string, statuses: readonly string[]): Answer {
    const book = this.coupon(couponId);
    const refused = this.bookRefusal(book);
    if (refused) return { refused };
    const all = this.codesOf(couponId).map((code) => this.codeView(code, book));
    return { codes: all.filter(({ status }) => statuses.length === 0 || statuses.includes(String(status))) };
  }

  private codeView(code: Code, book: Coupon): Answer {
    const { discount, expiresAt, maxUses, maxHolders, holders } = code;
    const held = this.holdersOf(code);
    const isFull = holders === maxHolders;
    const usedUp = isFull && held.every((one) => this.status(one) === "USED");
    const isOver = book.expiresAt <= this.state.now || (expiresAt !== null && expiresAt <= this.state.now);
    return {
      code: code.code,
      ...{ couponId: code.couponId, createdAt: code.createdAt },
      ...{ discount, expiresAt, maxUses, maxHolders },
      status: usedUp ? "USED" : isOver ? "EXPIRED" : isFull ? "ISSUED" : "FREE",
      holderCount: holders,
      holders: held.slice(0, 10).map((one) => `${one.userId} ${one.id} ${this.status(one)}`),
    };
  }

  /** Those who have it now; a seat may be taken although its holder is gone. */
  holdersOf({ number }: Code) {
    return this.state.userCoupons
      .filter((one) => one.codeNumber === number && one.deletedAt === null && one.releasedAt === null)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** One round, as it runs every second. */
  protected expireCodes(): void {
    const due = this.state.codes.filter((one) => one.outOfStockAt === null && this.isExpiredCode(one));
    for (const { id } of this.state.coupons) {
      const ofCoupon = due.filter(({ couponId }) => couponId === id);
      const free = ofCoupon.reduce((total, { maxHolders, holders }) => total + maxHolders - holders, 0);
      for (const code of ofCoupon) code.outOfStockAt = this.state.now;
      if (free === 0) continue;
      this.revise(id, {});
      this.codesHappened(
        "CODES_EXPIRED",
        id,
        ofCoupon.filter(({ maxHolders, holders }) => holders < maxHolders).length,
      );
    }
  }

  /** Frees the seats of user coupons that went back. Those of codes that have expired are in no stock any more. */
  protected giveBack(numbers: readonly (number | null)[]): void {
    const revised = new Set<string>();
    for (const number of numbers) {
      const code = this.state.codes.find((one) => one.number === number);
      if (!code) continue;
      code.holders -= 1;
      if (code.outOfStockAt !== null) revised.add(code.couponId);
    }
    for (const id of revised) this.setCoupon(id, { revision: this.coupon(id).revision + 1 });
  }
}

/** With all that a definition may leave out. */
function whole(definition: Definition, now: number) {
  const { startsAt, maxPerUser, maxUses, lockMs, throttle, type } = definition;
  const unthrottled = type === "MEGADEAL" ? megadealThrottle : null;
  return {
    ...definition,
    startsAt: startsAt ?? now,
    maxPerUser: maxPerUser ?? 1,
    maxUses: maxUses ?? 1,
    lockMs: lockMs ?? 300_000,
    throttle: throttle ?? unthrottled,
  };
}

function isCode(code: string): boolean {
  return code.length <= maxCodeLength && visible.test(code) && /[A-Za-z0-9]/.test(code);
}

/** By coupon; those of one coupon stay in their order. */
export function inOrder<T extends { couponId: string }>(codes: readonly T[]): T[] {
  return [...codes].sort((a, b) => (a.couponId === b.couponId ? 0 : a.couponId < b.couponId ? -1 : 1));
}
