-- Makes a coupon due for a look, and lists it for replicas of version 0.1, see `adopt_looks.lua`. O(log n).
-- KEYS: looks registry
-- ARGV: clockOffsetMs couponId
-- OUTCOMES: LISTED
local looksKey, registryKey = KEYS[1], KEYS[2]
local clockOffsetMs, couponId = tonumber(ARGV[1]), ARGV[2]
local aheadMs = 86400000

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

redis.call('ZADD', looksKey, 'LT', 0, couponId)
redis.call('ZADD', registryKey, string.format('%.0f', nowMs + aheadMs), couponId)
return 'LISTED'
