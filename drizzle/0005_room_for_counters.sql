-- By hand: drizzle-kit has no storage parameters. Each batch of issues and uses changes counters of the coupon's row, and none
-- of its indexed columns. With room on the page its new version lies beside the old one: no index is touched, the log has only
-- what differs, and the old version goes with the next one. Rows that are there already move to such pages as they change.
ALTER TABLE "coupons" SET (
  fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200, autovacuum_analyze_scale_factor = 0.05
);
