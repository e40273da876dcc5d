-- Forgets a coupon that nobody has asked for in a long time, unless something is pending or it is being loaded. O(1).
-- What has an end of its own stays until then: the use of its quota, its queue.
-- KEYS: coupon holders pending loading places taken
-- ARGV: none
-- OUTCOMES: LEFT STAYS
local couponKey, holdersKey, pendingKey, loadingKey, placesKey, takenKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

if redis.call('EXISTS', pendingKey, takenKey, loadingKey) > 0 then return 'STAYS' end
redis.call('UNLINK', couponKey, holdersKey, placesKey)
return 'LEFT'
