-- Reads how one coupon stands, and which of its reservations are past their deadline. O(log n + limit).
-- KEYS: coupon holders pending places taken
-- ARGV: clockOffsetMs limit
-- OUTCOMES: LOADED NOT_LOADED
-- Returns {outcome, revision, stock or '', pending count, {overdue member...}, places' revision or '', places remaining or '',
-- taken count, {overdue usage id...}, ms until the earliest deadline or '', updatedAtMs or '', heard or ''}.
local couponKey, holdersKey, pendingKey, placesKey, takenKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local clockOffsetMs, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local facts = redis.call('HMGET', couponKey, 'revision', 'stock', 'bucketCount', 'updatedAtMs', 'heard')
-- Without it, see admit.lua, it is no copy any more.
if facts[3] and redis.call('HEXISTS', holdersKey, '') == 0 then facts = {} end
local places = redis.call('HMGET', placesKey, 'revision', 'remaining')
local pendingCount, takenCount = redis.call('ZCARD', pendingKey), redis.call('ZCARD', takenKey)

local overdue, overdueUsageIds, earliestMs, leftMs = {}, {}, math.huge, ''
if pendingCount + takenCount > 0 then
  local time = redis.call('TIME')
  local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs
  if pendingCount > 0 then
    earliestMs = tonumber(redis.call('ZRANGE', pendingKey, 0, 0, 'WITHSCORES')[2])
    if limit > 0 then overdue = redis.call('ZRANGEBYSCORE', pendingKey, '-inf', nowMs, 'LIMIT', 0, limit) end
  end
  if takenCount > 0 then
    earliestMs = math.min(earliestMs, tonumber(redis.call('ZRANGE', takenKey, 0, 0, 'WITHSCORES')[2]))
    if limit > 0 then overdueUsageIds = redis.call('ZRANGEBYSCORE', takenKey, '-inf', nowMs, 'LIMIT', 0, limit) end
  end
  leftMs = string.format('%.0f', earliestMs - nowMs)
end
return {
  facts[1] and 'LOADED' or 'NOT_LOADED', facts[1] or '', facts[2] or '', pendingCount, overdue,
  places[1] or '', places[2] or '', takenCount, overdueUsageIds, leftMs,
  facts[4] or '', facts[5] or ''
}
