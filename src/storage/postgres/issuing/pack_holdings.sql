-- What users hold of a coupon, in buckets, and packed as reservation/packed-holdings.ts says. Expired holdings are among them: they
-- are counted as issued, and a repeated request of theirs is still a repeated one.
-- textsend() gives the client's encoding, which is UTF-8, and costs a third of convert_to().
CREATE OR REPLACE FUNCTION pack_holdings(of_coupon uuid, bucket_count int) RETURNS TABLE (bucket int, packed bytea)
LANGUAGE sql STABLE AS $$
  SELECT p.bucket, string_agg(p.packed, ''::bytea)
  FROM (
    SELECT
      (get_byte(h.hashed, 0) * 65536 + get_byte(h.hashed, 1) * 256 + get_byte(h.hashed, 2)) & (bucket_count - 1) AS bucket,
      int2send((octet_length(h.user_bytes) + CASE WHEN h.request_id IS NULL THEN 0 ELSE 1024 END
        + CASE WHEN h.valid_until IS NULL THEN 0 ELSE 2048 END)::int2)
      || h.user_bytes || uuid_send(h.id)
      || CASE WHEN h.request_id IS NULL THEN ''::bytea ELSE substr(sha256(textsend(h.request_id)), 1, 8) END
      || CASE WHEN h.valid_until IS NULL THEN ''::bytea ELSE substr(int8send(millis(h.valid_until)), 3) END AS packed
    FROM (
      SELECT u.id, u.request_id, u.valid_until, textsend(u.user_id) AS user_bytes, sha256(textsend(u.user_id)) AS hashed
      FROM user_coupons u
      WHERE u.coupon_id = of_coupon AND u.slot IS NOT NULL AND u.max_uses > 0
      OFFSET 0
    ) h
    -- What is sorted is small by then.
    OFFSET 0
  ) p
  GROUP BY p.bucket
$$;
