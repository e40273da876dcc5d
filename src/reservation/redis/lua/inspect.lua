-- Reads how one coupon stands, and which of its reservations are past their deadline. O(log n + limit).
-- KEYS: coupon pending
-- ARGV: clockOffsetMs limit
-- OUTCOMES: LOADED NOT_LOADED
-- Returns {outcome, revision, stock or '', pending count, overdue member...}.
local couponKey, pendingKey = KEYS[1], KEYS[2]
local clockOffsetMs, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs
local facts = redis.call('HMGET', couponKey, 'revision', 'stock')
local answer = { facts[1] and 'LOADED' or 'NOT_LOADED', facts[1] or '', facts[2] or '', redis.call('ZCARD', pendingKey) }
if limit > 0 then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', pendingKey, '-inf', nowMs, 'LIMIT', 0, limit)) do
    answer[#answer + 1] = member
  end
end
return answer
