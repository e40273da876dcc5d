-- What users hold of a coupon: of each the first three bytes of the SHA-256 of the user id, and then what reservation/packed-holdings.ts
-- says. Expired holdings are among them: they are counted as issued, and a repeated request of theirs is still a repeated one. So it is
-- when they have no slot any more, for they were given back, or for another took their place: of those there is the request alone.
-- In whatever order they are found: they are put into buckets by bucket-sort.ts.
-- textsend() gives the client's encoding, which is UTF-8, and costs a third of convert_to().
CREATE OR REPLACE FUNCTION pack_holdings(of_coupon uuid) RETURNS TABLE (packed bytea)
LANGUAGE sql STABLE AS $$
  SELECT
    substr(sha256(textsend(u.user_id)), 1, 3) || CASE
      WHEN u.slot IS NULL THEN int2send(0::int2) || substr(sha256(textsend(u.request_id)), 1, 8) || int8send(0)
      ELSE int2send((octet_length(u.user_id) + CASE WHEN u.request_id IS NULL THEN 0 ELSE 1024 END
          + CASE WHEN u.valid_until IS NULL THEN 0 ELSE 2048 END)::int2)
        || textsend(u.user_id) || uuid_send(u.id)
        || coalesce(substr(sha256(textsend(u.request_id)), 1, 8), ''::bytea)
        || coalesce(substr(int8send(millis(u.valid_until)), 3), ''::bytea)
    END
  FROM user_coupons u
  WHERE u.coupon_id = of_coupon AND (u.slot IS NOT NULL OR u.request_id IS NOT NULL) AND u.max_uses > 0
$$;
