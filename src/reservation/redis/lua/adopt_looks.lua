-- Makes coupons due for a look that a replica of version 0.1 has seen loaded: of these it tells nobody when somebody asks
-- for them. Its entries have the present time; ours are a day ahead, so that it sweeps them, and ends to do so when there
-- is no replica of ours any more. O(log n + limit).
-- KEYS: looks registry
-- ARGV: clockOffsetMs limit
-- OUTCOMES: ADOPTED
-- Returns {outcome, how many}.
local looksKey, registryKey = KEYS[1], KEYS[2]
local clockOffsetMs, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
-- The clock of a replica that wrote an entry may be wrong by as much as half of this.
local aheadMs = 86400000

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local found = redis.call('ZRANGEBYSCORE', registryKey, '-inf', string.format('%.0f', nowMs + aheadMs / 2), 'LIMIT', 0, limit)
if #found > 0 then
  local due, ours = {}, {}
  for _, couponId in ipairs(found) do
    due[#due + 1] = 0
    due[#due + 1] = couponId
    ours[#ours + 1] = string.format('%.0f', nowMs + aheadMs)
    ours[#ours + 1] = couponId
  end
  redis.call('ZADD', looksKey, 'LT', unpack(due))
  redis.call('ZADD', registryKey, unpack(ours))
end
return { 'ADOPTED', #found }
