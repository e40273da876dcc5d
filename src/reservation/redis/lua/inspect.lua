-- Reads how one coupon stands, and which of its reservations are past their deadline. O(log n + limit).
-- KEYS: coupon pending places taken
-- ARGV: clockOffsetMs limit
-- OUTCOMES: LOADED NOT_LOADED
-- Returns {outcome, revision, stock or '', pending count, {overdue member...}, places' revision or '', places remaining or '',
-- taken count, {overdue usage id...}}.
local couponKey, pendingKey, placesKey, takenKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local clockOffsetMs, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local overdue, overdueUsageIds = {}, {}
if limit > 0 then
  overdue = redis.call('ZRANGEBYSCORE', pendingKey, '-inf', nowMs, 'LIMIT', 0, limit)
  overdueUsageIds = redis.call('ZRANGEBYSCORE', takenKey, '-inf', nowMs, 'LIMIT', 0, limit)
end
local facts = redis.call('HMGET', couponKey, 'revision', 'stock')
local places = redis.call('HMGET', placesKey, 'revision', 'remaining')
return {
  facts[1] and 'LOADED' or 'NOT_LOADED', facts[1] or '', facts[2] or '', redis.call('ZCARD', pendingKey), overdue,
  places[1] or '', places[2] or '', redis.call('ZCARD', takenKey), overdueUsageIds
}
