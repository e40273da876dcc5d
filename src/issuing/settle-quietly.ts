import { StoreUnavailable } from "../domain/refusal.js";

/** What cannot be settled now is settled by a sweep, or was forgotten together with the reservation. */
export async function settleQuietly<T>(
  settlements: readonly T[],
  settle: (settlements: readonly T[]) => Promise<void>,
): Promise<void> {
  try {
    if (settlements.length > 0) await settle(settlements);
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
  }
}
