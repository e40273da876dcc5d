-- Confirms or releases user coupons of one coupon after Postgres has decided, or forgets those that users have given back:
-- RETURN puts them into stock, FREE does not. O(number of settlements), at most 128. Repeating a settlement changes nothing.
-- KEYS: coupon holders pending loading late quota queue ended hashes
-- ARGV: clockOffsetMs hasQuota keepQuotaMs (outcome userCouponId userId requestId detail userHash requestHash)...
-- OUTCOMES: SETTLED
-- `detail`: of CONFIRM validUntilMs, 0 for none; of RETURN and FREE the number of what was given back, or '', see parts/heard.lua.
local couponKey, holdersKey, pendingKey, loadingKey, lateKey, quotaKey, queueKey, endedKey, hashesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
-- INCLUDE holdings
-- INCLUDE heard
local clockOffsetMs, hasQuota, keepQuotaMs = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local count = (#ARGV - 3) / 7
-- Longer than any load; the next load begins with an empty list.
local lateKeepMs = 600000
-- As many ends as the fastest throttle looks back on, for longer than it does.
local maxEnded, keepEndedMs = 1000, 60000

local facts = redis.call('HMGET', couponKey, 'stock', 'maxPerUser', 'keepUntilMs', 'maxPerSecond', 'bucketCount', 'heard')
local stock, bucketCount = tonumber(facts[1]), tonumber(facts[5])
local users, hashes = {}, {}
for i = 1, count do
  users[i], hashes[i] = ARGV[i * 7 - 1], tonumber(ARGV[i * 7 + 2])
end
local book = facts[2] and openHoldings(users, hashes, bucketCount)
local loadingLeftMs = redis.call('PTTL', loadingKey)
local countsGivenBack = loadingLeftMs > 0 and string.sub(redis.call('GET', loadingKey), 1, 2) == '2 '
local given, adopted, ended, decided, late = 0, 0, {}, {}, {}
-- Absent in a copy that a replica of version 0.2 has loaded.
local heard = facts[6]

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
  local at = (i - 1) * 7 + 3
  local outcome, userCouponId, userId, requestId, detail = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local wasPending = redis.call('ZREM', pendingKey, userCouponId .. '\31' .. userId .. '\31' .. requestId) == 1
  if wasPending then
    ended[#ended + 1] = 0
    decided[#decided + 1] = userId
  end
  if hasQuota == '1' then settleDay(outcome, userCouponId, userId) end
  local isHeldUp = false
  if book then
    local kept, known, added = {}, false, nil
    for _, entry in ipairs(book.find(i)) do
      if entry.id == userCouponId then known = true else kept[#kept + 1] = entry end
    end
    isHeldUp = outcome == 'CONFIRM' and not known and book.wasGivenBefore(i, userCouponId)
    if outcome == 'CONFIRM' and not isHeldUp then
      added = book.entry(i, userCouponId, requestId, ARGV[at + 7], 'C', detail)
      if not known then adopted = adopted + 1 end
    elseif known and (outcome == 'RETURN' or (outcome == 'RELEASE' and wasPending)) then
      given = given + 1
    elseif not (known and outcome == 'FREE') then
      kept = nil
    end
    if kept then book.put(i, kept, added) end
    if outcome == 'RETURN' or outcome == 'FREE' then
      book.give(i, ARGV[at + 7])
      if wasPending or not known then book.giveBefore(i, userCouponId) end
    end
    if heard and outcome ~= 'CONFIRM' and detail ~= '' then heard = hear(heard, tonumber(detail)) end
  end
  -- A load under way has read Postgres before or after this was committed; load_install.lua finds out which.
  if loadingLeftMs > 0 and not isHeldUp and (outcome == 'CONFIRM' or (outcome ~= 'RELEASE' and countsGivenBack)) then
    redis.call('RPUSH', lateKey, userId, userCouponId, requestId, outcome == 'CONFIRM' and detail or outcome .. ' ' .. detail .. ' ' .. ARGV[at + 7])
    late[#late + 1] = userId
    late[#late + 1] = hashes[i]
  elseif loadingLeftMs > 0 and not isHeldUp and outcome ~= 'RELEASE' then
    -- It may have read a holder who has none any more.
    redis.call('UNLINK', loadingKey)
    loadingLeftMs = 0
  end
end

if book then
  book.write()
  if stock and given ~= adopted then redis.call('HINCRBY', couponKey, 'stock', given - adopted) end
  if heard ~= facts[6] then redis.call('HSET', couponKey, 'heard', heard) end
  if not bucketCount then redis.call('PEXPIREAT', holdersKey, facts[3]) end
end
if #decided > 0 then redis.call('HDEL', hashesKey, unpack(decided)) end
if loadingLeftMs > 0 then
  redis.call('PEXPIRE', lateKey, lateKeepMs)
  if #late > 0 then
    redis.call('HSET', hashesKey, unpack(late))
    redis.call('PEXPIRE', hashesKey, lateKeepMs)
  end
end
-- While the coupon is not loaded, its queue says whether it is throttled.
if #ended > 0 and (facts[4] or (not book and redis.call('EXISTS', queueKey) == 1)) then
  local time = redis.call('TIME')
  local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs
  for i = 1, #ended do ended[i] = nowMs end
  redis.call('LPUSH', endedKey, unpack(ended))
  redis.call('LTRIM', endedKey, 0, maxEnded - 1)
  redis.call('PEXPIRE', endedKey, keepEndedMs)
end
return 'SETTLED'
