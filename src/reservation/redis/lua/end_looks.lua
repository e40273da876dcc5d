-- Says when coupons that were looked at are due again, or takes them out when pauseMs is empty. Void for a coupon whose
-- score has changed since: somebody has asked for it, or the look took too long. O(number of coupons * log n), at most 128.
-- KEYS: looks registry
-- ARGV: clockOffsetMs (couponId claim pauseMs calmLooks)...
-- OUTCOMES: ENDED
local looksKey, registryKey = KEYS[1], KEYS[2]
local clockOffsetMs = tonumber(ARGV[1])
-- Entries that a replica of version 0.1 has written since are adopted first.
local oursMs = 43200000

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local ids = {}
for i = 2, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local scores = redis.call('ZMSCORE', looksKey, unpack(ids))
local written = redis.call('ZMSCORE', registryKey, unpack(ids))
local later, gone, unlisted = {}, {}, {}
for i = 1, #ids do
  local claim, pauseMs, calmLooks = ARGV[i * 4 - 1], ARGV[i * 4], ARGV[i * 4 + 1]
  if scores[i] and tonumber(scores[i]) == tonumber(claim) then
    if pauseMs ~= '' then
      later[#later + 1] = string.format('%.17g', nowMs + math.floor(pauseMs) + calmLooks / 64)
      later[#later + 1] = ids[i]
    else
      gone[#gone + 1] = ids[i]
      if written[i] and tonumber(written[i]) > nowMs + oursMs then unlisted[#unlisted + 1] = ids[i] end
    end
  end
end
if #later > 0 then redis.call('ZADD', looksKey, unpack(later)) end
if #gone > 0 then redis.call('ZREM', looksKey, unpack(gone)) end
if #unlisted > 0 then redis.call('ZREM', registryKey, unpack(unlisted)) end
return 'ENDED'
