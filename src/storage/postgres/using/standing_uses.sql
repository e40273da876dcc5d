-- What stands of one user's order: how many uses, what they take off together, whether all are of coupons that may be combined,
-- and what each of them was told that the order amounts to (null: there are none, or they were told different amounts). `mark`
-- names exactly these uses, and what matters of their coupons; '': none.
CREATE OR REPLACE FUNCTION standing_uses(holder text, named text)
RETURNS TABLE (use_count bigint, discounted bigint, is_stackable boolean, currency_code char(3), order_amount bigint, mark text)
LANGUAGE sql STABLE AS $$
  SELECT count(*), coalesce(sum(s.discount_amount), 0)::bigint, coalesce(bool_and(c.stackable), true),
    CASE WHEN min(s.currency_code) = max(s.currency_code) AND min(s.order_amount) = max(s.order_amount)
      THEN min(s.currency_code) END,
    CASE WHEN min(s.currency_code) = max(s.currency_code) AND min(s.order_amount) = max(s.order_amount)
      THEN min(s.order_amount) END,
    CASE WHEN count(*) = 0 THEN ''
      ELSE count(*) || ' ' || bit_xor(uuid_hash_extended(s.id, 0)) || ' ' || coalesce(bool_and(c.stackable), true) END
  FROM usages s LEFT JOIN coupons c ON c.id = s.coupon_id
  WHERE s.order_id = named AND s.user_id = holder AND s.cancelled_at IS NULL
$$;
