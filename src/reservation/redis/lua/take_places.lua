-- Takes places under one coupon's usage cap for uses, or says that there is none. O(number of requests * log n), at most 128.
-- KEYS: places taken
-- ARGV: clockOffsetMs reservationMs keepMs (usageId revision)...
-- OUTCOMES: TAKEN NOT_LOADED UNDECIDED USAGE_CAP_REACHED
-- Returns one outcome for each request, in order.
local placesKey, takenKey = KEYS[1], KEYS[2]
local clockOffsetMs, reservationMs, keepMs = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local requestCount = (#ARGV - 3) / 2

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs
local facts = redis.call('HMGET', placesKey, 'revision', 'remaining')
local known, remaining = facts[1], tonumber(facts[2])

local outcomes, members, taken = {}, {}, 0
local pending = redis.call('ZCARD', takenKey)
for i = 1, requestCount do
  local usageId, revision = ARGV[i * 2 + 2], ARGV[i * 2 + 3]
  if known ~= revision then
    outcomes[i] = 'NOT_LOADED'
  elseif remaining - taken <= 0 then
    outcomes[i] = pending + taken > 0 and 'UNDECIDED' or 'USAGE_CAP_REACHED'
  else
    outcomes[i] = 'TAKEN'
    taken = taken + 1
    members[#members + 1] = nowMs + reservationMs
    members[#members + 1] = usageId
  end
end

if taken > 0 then
  redis.call('ZADD', takenKey, unpack(members))
  redis.call('HINCRBY', placesKey, 'remaining', -taken)
  redis.call('PEXPIRE', placesKey, keepMs)
end
return outcomes
