/** The record of what happened, by months. */
export interface EventStore {
  /**
   * Makes the partitions of the months to come, and removes those that ended `keepDays` ago; 0: none. Answers how many months were made,
   * and what was removed.
   */
  keep(keepDays: number): Promise<{ readonly made: number; readonly dropped: readonly string[] }>;
}
