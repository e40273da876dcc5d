-- Confirms or releases user coupons of one coupon after Postgres has decided, or forgets those that users have given back:
-- RETURN puts them into stock, FREE does not. O(number of settlements), at most 128. Repeating a settlement changes nothing.
-- KEYS: coupon holders pending loading late quota queue ended
-- ARGV: clockOffsetMs hasQuota keepQuotaMs (outcome userCouponId userId requestId validUntilMs)...
-- OUTCOMES: SETTLED
local couponKey, holdersKey, pendingKey, loadingKey, lateKey, quotaKey, queueKey, endedKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local clockOffsetMs, hasQuota, keepQuotaMs = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local count = (#ARGV - 3) / 5
-- Longer than any load; the next load begins with an empty list.
local lateKeepMs = 600000
-- As many ends as the fastest throttle looks back on, for longer than it does.
local maxEnded, keepEndedMs = 1000, 60000

local facts = redis.call('HMGET', couponKey, 'stock', 'maxPerUser', 'keepUntilMs', 'maxPerSecond')
local stock, loaded = tonumber(facts[1]), facts[2]
local loadingLeftMs = redis.call('PTTL', loadingKey)
local given, adopted, ended = 0, 0, {}

-- Of what a user was issued in a day everything counts, also what was given back later.
local function settleDay(outcome, userCouponId, userId)
  local before = redis.call('HGET', quotaKey, userId) or ''
  local kept, state = {}, nil
  for entry, id, its in string.gmatch(before, '(([^\31]*)\31(%a)\30)') do
    if id == userCouponId then state = its else kept[#kept + 1] = entry end
  end
  if outcome == 'RELEASE' then
    if state ~= 'P' then return end
  elseif state == 'C' or (not state and outcome ~= 'CONFIRM') then return
  else kept[#kept + 1] = userCouponId .. '\31C\30'
  end
  if #kept > 0 then redis.call('HSET', quotaKey, userId, table.concat(kept)) else redis.call('HDEL', quotaKey, userId) end
  redis.call('PEXPIRE', quotaKey, keepQuotaMs)
end

for i = 1, count do
  local at = (i - 1) * 5 + 3
  local outcome, userCouponId, userId, requestId, validUntilMs = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local wasPending = redis.call('ZREM', pendingKey, userCouponId .. '\31' .. userId .. '\31' .. requestId) == 1
  if wasPending then ended[#ended + 1] = 0 end
  if hasQuota == '1' then settleDay(outcome, userCouponId, userId) end
  if loaded then
    local before = redis.call('HGET', holdersKey, userId) or ''
    local kept, known = {}, false
    for entry, id in string.gmatch(before, '(([^\31]*)\31[^\30]*\30)') do
      if id == userCouponId then known = true else kept[#kept + 1] = entry end
    end
    if outcome == 'CONFIRM' then
      kept[#kept + 1] = userCouponId .. '\31' .. requestId .. '\31C\31' .. validUntilMs .. '\30'
      if not known then adopted = adopted + 1 end
    elseif known and (outcome == 'RETURN' or (outcome == 'RELEASE' and wasPending)) then
      given = given + 1
    elseif not (known and outcome == 'FREE') then
      kept = nil
    end
    if kept then
      if #kept > 0 then redis.call('HSET', holdersKey, userId, table.concat(kept)) else redis.call('HDEL', holdersKey, userId) end
    end
  end
  -- A load under way has read Postgres before or after this row was committed; install.lua finds out which.
  if loadingLeftMs > 0 and outcome == 'CONFIRM' then
    redis.call('RPUSH', lateKey, userId, userCouponId, requestId, validUntilMs)
  elseif loadingLeftMs > 0 and outcome ~= 'RELEASE' then
    -- It may have read a holder who has none any more.
    redis.call('UNLINK', loadingKey)
    loadingLeftMs = 0
  end
end

if loaded then
  if stock and given ~= adopted then redis.call('HINCRBY', couponKey, 'stock', given - adopted) end
  redis.call('PEXPIREAT', holdersKey, facts[3])
end
if loadingLeftMs > 0 then redis.call('PEXPIRE', lateKey, lateKeepMs) end
-- While the coupon is not loaded, its queue says whether it is throttled.
if #ended > 0 and (facts[4] or (not loaded and redis.call('EXISTS', queueKey) == 1)) then
  local time = redis.call('TIME')
  local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs
  for i = 1, #ended do ended[i] = nowMs end
  redis.call('LPUSH', endedKey, unpack(ended))
  redis.call('LTRIM', endedKey, 0, maxEnded - 1)
  redis.call('PEXPIRE', endedKey, keepEndedMs)
end
return 'SETTLED'
