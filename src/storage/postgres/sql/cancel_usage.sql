-- Cancels one usage of one user: every counter of what stands goes back by one. The place under the coupon's usage cap stays with the
-- user coupon, unless that was deleted: then it goes back to the others, while the cap has not been reached.
--   CANCELLED, USAGE_NOT_FOUND, USAGE_ALREADY_CANCELLED
CREATE OR REPLACE FUNCTION cancel_usage(holder text, cancelled_id uuid) RETURNS TABLE (outcome text, freed boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  usage usages;
  of_deleted boolean;
  was_used_up boolean;
  freed_places int;
BEGIN
  SELECT * INTO usage FROM usages s WHERE s.id = cancelled_id AND s.user_id = holder;
  IF usage.id IS NULL THEN
    RETURN QUERY SELECT 'USAGE_NOT_FOUND', false;
    RETURN;
  END IF;
  PERFORM FROM coupons c WHERE c.id = usage.coupon_id FOR NO KEY UPDATE;
  at := coupon_clock();

  UPDATE usages s SET cancelled_at = at WHERE s.id = cancelled_id AND s.cancelled_at IS NULL;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'USAGE_ALREADY_CANCELLED', false;
    RETURN;
  END IF;
  UPDATE user_coupons u
  SET use_count = u.use_count - 1, place_count = u.place_count - CASE WHEN u.deleted_at IS NULL THEN 0 ELSE 1 END,
    lapse_at = CASE WHEN u.deleted_at IS NULL AND NOT u.lapsed THEN u.valid_until END
  WHERE u.id = usage.user_coupon_id
  RETURNING u.deleted_at IS NOT NULL, u.use_count + 1 >= u.max_uses INTO of_deleted, was_used_up;
  freed_places := CASE WHEN of_deleted THEN 1 ELSE 0 END;
  UPDATE coupons c
  SET used_count = c.used_count - 1, place_count = c.place_count - freed_places, cancelled_total = c.cancelled_total + 1,
    -- What is deleted was taken out of the count then.
    used_up_count = c.used_up_count - CASE WHEN was_used_up AND NOT of_deleted THEN 1 ELSE 0 END
  WHERE c.id = usage.coupon_id;
  INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, usage_id)
  VALUES ('USAGE_CANCELLED', at, usage.coupon_id, usage.user_coupon_id, usage.user_id, usage.id);
  RETURN QUERY SELECT 'CANCELLED', freed_places > 0;
END
$$;
