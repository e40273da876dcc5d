-- Takes coupons that are due for a look, the longest due first. Until their leases are over nobody else does. O(log n + limit).
-- KEYS: looks
-- ARGV: clockOffsetMs leaseMs limit
-- OUTCOMES: CLAIMED
-- Returns {outcome, (couponId, claim, calm looks)...}. The claim is the coupon's score from now on.
local looksKey = KEYS[1]
local clockOffsetMs, leaseMs, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local due = redis.call('ZRANGEBYSCORE', looksKey, '-inf', string.format('%.0f', nowMs), 'WITHSCORES', 'LIMIT', 0, limit)
local claimed, scores = { 'CLAIMED' }, {}
for i = 1, #due, 2 do
  local calm = tonumber(due[i + 1]) % 1
  local claim = string.format('%.17g', nowMs + leaseMs + calm)
  scores[#scores + 1] = claim
  scores[#scores + 1] = due[i]
  claimed[#claimed + 1] = due[i]
  claimed[#claimed + 1] = claim
  claimed[#claimed + 1] = calm * 64
end
if #scores > 0 then redis.call('ZADD', looksKey, unpack(scores)) end
return claimed
