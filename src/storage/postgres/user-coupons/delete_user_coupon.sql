-- Deletes one user coupon of one user: frees its slot, and puts it back into stock if that is wanted and no use of it
-- stands; its code goes back with it. Places that cancelled uses have kept under the coupon's usage cap go back to the
-- others. A user coupon that was released before stays counted as released, and one whose claim window has passed is released first:
-- its stock goes back whatever is wanted. `returned`: into stock, now; `restocked`: because that was wanted. `freed` says that the gate
-- cannot count what went back: places, or the stock of one that had expired, which it does not know any more. `released`: it was
-- released before, and who released it tells the gate, or has told it. `given_back_no`: which of its coupon's it is that were given back, from
-- 1 and without a gap, for its row is locked; null: it was released before, and has its number from then.
--   DELETED, USER_COUPON_NOT_FOUND, ALREADY_USED (a use of it stands and `used_too` is not set), LOCKED
CREATE OR REPLACE FUNCTION delete_user_coupon(holder text, deleted_id uuid, restock boolean, used_too boolean)
RETURNS TABLE (
  outcome text, coupon_id uuid, request_id text, returned boolean, restocked boolean, freed boolean, released boolean, locked_until_ms bigint,
  given_back_no bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  target user_coupons;
  due boolean;
  back boolean;
  number bigint;
BEGIN
  PERFORM FROM coupons c
  WHERE c.id = (SELECT u.coupon_id FROM user_coupons u WHERE u.id = deleted_id AND u.user_id = holder) FOR NO KEY UPDATE;
  SELECT * INTO target FROM user_coupons u WHERE u.id = deleted_id AND u.user_id = holder;
  at := coupon_clock();
  due := target.released_at IS NULL
    AND user_coupon_status(target, (SELECT c FROM coupons c WHERE c.id = target.coupon_id), at) = 'RELEASED';
  -- What is released is back in stock already.
  back := due OR (restock AND target.use_count = 0 AND target.released_at IS NULL);
  IF target.id IS NULL OR target.deleted_at IS NOT NULL THEN
    RETURN QUERY SELECT 'USER_COUPON_NOT_FOUND', NULL::uuid, NULL, false, false, false, false, NULL::bigint, NULL::bigint;
  ELSIF target.use_count > 0 AND NOT used_too THEN
    RETURN QUERY SELECT 'ALREADY_USED', NULL::uuid, NULL, false, false, false, false, NULL::bigint, NULL::bigint;
  ELSIF target.locked_until > at THEN
    RETURN QUERY SELECT 'LOCKED', NULL::uuid, NULL, false, false, false, false, millis(target.locked_until), NULL::bigint;
  ELSE
    UPDATE user_coupons u
    SET deleted_at = at, slot = NULL, claim_until = NULL, locked_until = NULL, lock_token = NULL, place_count = u.use_count,
      released_at = CASE WHEN due THEN at ELSE u.released_at END, lapse_at = NULL, lapsed = false, gone_at = CASE WHEN u.place_count = 0 THEN coalesce(u.gone_at, at) END
    WHERE u.id = deleted_id;
    UPDATE coupons c
    SET issued_count = c.issued_count - back::int,
      place_count = c.place_count - (target.place_count - target.use_count),
      released_total = c.released_total + due::int,
      deleted_total = c.deleted_total + (target.released_at IS NULL AND NOT due)::int,
      used_up_count = c.used_up_count - (target.use_count >= target.max_uses)::int,
      placed_holder_count = c.placed_holder_count - (target.place_count > 0)::int,
      lapsed_count = c.lapsed_count - target.lapsed::int
    WHERE c.id = target.coupon_id
    RETURNING c.released_total + c.deleted_total INTO number;
    IF back AND target.code_id IS NOT NULL THEN PERFORM give_back_codes(ARRAY[target.code_id]); END IF;
    IF due THEN
      INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id)
      VALUES ('USER_COUPON_RELEASED', at, target.coupon_id, target.id, target.user_id);
    END IF;
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, detail)
    VALUES ('USER_COUPON_DELETED', at, target.coupon_id, target.id, target.user_id, jsonb_build_object('restocked', back AND NOT due));
    RETURN QUERY
    SELECT 'DELETED', target.coupon_id, target.request_id, back, back AND NOT due,
      (target.place_count > target.use_count OR (back AND target.valid_until <= at)) IS TRUE, target.released_at IS NOT NULL, NULL::bigint,
      CASE WHEN target.released_at IS NULL THEN number END;
  END IF;
END
$$;
