import type { PlaceFacts, PlaceOutcome, PlaceRequest, PlaceSettlement, Survey } from "../port.js";
import { keepPlacesMs } from "../port.js";

interface Places {
  readonly revision: number;
  remaining: number;
  keepUntilMs: number;
}

/** The places under coupons' usage caps. */
export class MemoryPlaces {
  private readonly places = new Map<string, Places>();
  /** By coupon: the deadlines of usages that have taken a place. */
  private readonly taken = new Map<string, Map<string, number>>();

  constructor(
    private readonly reservationMs: number,
    private readonly now: () => number,
  ) {}

  get couponIds(): string[] {
    return [...this.places.keys(), ...this.taken.keys()];
  }

  take({ couponId, usageId, revision }: PlaceRequest): PlaceOutcome {
    const places = this.places.get(couponId);
    if (places?.revision !== revision) return "NOT_LOADED";
    if (places.remaining <= 0) return this.taken.has(couponId) ? "UNDECIDED" : "USAGE_CAP_REACHED";
    const nowMs = this.now();
    places.remaining -= 1;
    places.keepUntilMs = nowMs + keepPlacesMs;
    const ofCoupon = this.taken.get(couponId) ?? new Map();
    ofCoupon.set(usageId, nowMs + this.reservationMs);
    this.taken.set(couponId, ofCoupon);
    return "TAKEN";
  }

  settle(settlements: readonly PlaceSettlement[]): void {
    for (const { couponId, usageId, outcome } of settlements) {
      const ofCoupon = this.taken.get(couponId);
      const wasTaken = ofCoupon?.delete(usageId) ?? false;
      if (ofCoupon?.size === 0) this.taken.delete(couponId);
      const places = this.places.get(couponId);
      if (wasTaken && outcome === "RELEASE" && places) places.remaining += 1;
    }
  }

  load(couponId: string, { revision, remaining }: PlaceFacts): void {
    if (this.places.get(couponId)?.revision === revision) return;
    this.taken.delete(couponId);
    this.places.set(couponId, { revision, remaining, keepUntilMs: this.now() + keepPlacesMs });
  }

  drop(couponId: string): void {
    this.places.delete(couponId);
  }

  /** Forgets those that nobody has asked for in a long time. */
  forgetOld(): void {
    const nowMs = this.now();
    for (const [id, { keepUntilMs }] of this.places) if (keepUntilMs <= nowMs) this.places.delete(id);
  }

  /** null: none is pending. */
  earliestDeadlineMs(couponId: string): number | null {
    const taken = this.taken.get(couponId);
    return taken ? Math.min(...taken.values()) : null;
  }

  survey(couponId: string, overdueLimit: number): Pick<Survey, "places" | "takenCount" | "overdueUsageIds"> {
    const nowMs = this.now();
    const places = this.places.get(couponId);
    const taken = [...(this.taken.get(couponId) ?? [])];
    const overdue = taken.filter(([, deadlineMs]) => deadlineMs <= nowMs).map(([usageId]) => usageId);
    return {
      places: places ? { revision: places.revision, remaining: places.remaining } : null,
      takenCount: taken.length,
      overdueUsageIds: overdue.slice(0, overdueLimit),
    };
  }
}
