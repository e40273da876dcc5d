-- Ends a load: from now on the coupon is known here. Settlements that arrived during the load and reservations that are
-- still pending are counted, unless what was read from Postgres has them already. O(late + pending).
-- KEYS: loading stage late coupon holders pending ended hashes
-- ARGV: token clockOffsetMs keepMs revision startsAtMs expiresAtMs paused deleted exhausted maxPerUser stock maxConcurrent maxPerSecond maxWaitMs quotaPerDay bucketCount updatedAtMs givenBackTotal
-- OUTCOMES: INSTALLED LOST UNHASHED
-- Returns {outcome}; UNHASHED is followed by the users of whom `hashes` must say more first: nothing was done.
local loadingKey, stageKey, lateKey, couponKey, holdersKey, pendingKey, endedKey, hashesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
-- INCLUDE holdings
-- INCLUDE heard
local token, clockOffsetMs, keepMs, revision = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local startsAtMs, expiresAtMs, paused, deleted, exhausted = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local maxPerUser, stock = ARGV[10], tonumber(ARGV[11])
local maxConcurrent, maxPerSecond, maxWaitMs, quotaPerDay, bucketCount = ARGV[12], ARGV[13], ARGV[14], ARGV[15], tonumber(ARGV[16])
local updatedAtMs, givenBackTotal = ARGV[17], ARGV[18]
-- How many users are read and written at once.
local usersAtOnce = 100

if redis.call('GET', loadingKey) ~= token then return { 'LOST' } end

local time = redis.call('TIME')
local realNowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local keepUntilMs = string.format('%.0f', realNowMs + keepMs)

-- What is to be counted, unless what was read has it: user, user coupon, request, validUntilMs, and the member if it is pending.
-- RETURN or FREE in the place of validUntilMs, with its number and the hash of its request: it was given back, and counts only if
-- what was read, or what came before it, has it.
-- (Without a way to tell whether Postgres was read before one was both issued and given up, or after: then one too few is in
-- stock, until the next looks have found that.)
local adopting = {}
local late = redis.call('LRANGE', lateKey, 0, -1)
for i = 1, #late, 4 do adopting[#adopting + 1] = { late[i], late[i + 1], late[i + 2], late[i + 3] } end
for _, member in ipairs(redis.call('ZRANGE', pendingKey, 0, -1)) do
  local userCouponId, userId, requestId = string.match(member, '^([^\31]*)\31([^\31]*)\31([^\31]*)$')
  adopting[#adopting + 1] = { userId, userCouponId, requestId, '0', member }
end

local users, hashes, unhashed = {}, {}, { 'UNHASHED' }
for first = 1, #adopting, usersAtOnce do
  local asked = {}
  for i = first, math.min(first + usersAtOnce - 1, #adopting) do
    users[i] = adopting[i][1]
    asked[#asked + 1] = users[i]
  end
  for i, hash in ipairs(redis.call('HMGET', hashesKey, unpack(asked))) do
    hashes[first + i - 1] = tonumber(hash)
    if not hash then unhashed[#unhashed + 1] = asked[i] end
  end
end
if #unhashed > 1 then return unhashed end

redis.call('UNLINK', holdersKey, couponKey)
if redis.call('EXISTS', stageKey) == 1 then
  redis.call('RENAME', stageKey, holdersKey)
  redis.call('PERSIST', holdersKey)
end
redis.call('HSET', holdersKey, '', bucketCount)

local heard = '0-' .. givenBackTotal
local endedAt = string.format('%.0f', realNowMs + clockOffsetMs)
for first = 1, #adopting, usersAtOnce do
  local ofUsers, ofHashes, forgotten = {}, {}, {}
  for i = first, math.min(first + usersAtOnce - 1, #adopting) do
    ofUsers[#ofUsers + 1], ofHashes[#ofHashes + 1] = users[i], hashes[i]
  end
  local book = openHoldings(ofUsers, ofHashes, bucketCount)
  for i, userId in ipairs(ofUsers) do
    local _, userCouponId, requestId, validUntilMs, member = unpack(adopting[first + i - 1])
    local kept, known = {}, false
    for _, entry in ipairs(book.find(i)) do
      if entry.id == userCouponId then known = true else kept[#kept + 1] = entry end
    end
    local given, number, requestHash = string.match(validUntilMs, '^(%u+) (%d*) (%x*)$')
    if given then
      if number ~= '' then heard = hear(heard, tonumber(number)) end
      if known then
        book.put(i, kept)
        book.give(i, requestHash)
      end
      book.giveBefore(i, userCouponId)
      if known and stock and given == 'RETURN' then stock = stock + 1 end
    elseif not known and (member or not book.wasGivenBefore(i, userCouponId)) then
      book.carry(i, textEntry(userCouponId, requestId, member and 'P' or 'C', validUntilMs))
      if stock then stock = stock - 1 end
    elseif member then
      redis.call('ZREM', pendingKey, member)
      if maxPerSecond ~= '' then redis.call('LPUSH', endedKey, endedAt) end
    end
    if known or not member then forgotten[#forgotten + 1] = userId end
  end
  book.write()
  if #forgotten > 0 then redis.call('HDEL', hashesKey, unpack(forgotten)) end
end

-- A replica of before buckets is to take this for no copy, and whatever it settles here ends it: no `startsAtMs`, without
-- which it does not admit, and a time that has passed in `keepUntilMs`, at which it lets `holders` expire.
redis.call('HSET', couponKey, 'revision', revision, 'opensAtMs', startsAtMs, 'bucketCount', bucketCount, 'expiresAtMs', expiresAtMs, 'paused', paused,
  'deleted', deleted, 'exhausted', exhausted, 'maxPerUser', maxPerUser, 'keepUntilMs', 1,
  'updatedAtMs', updatedAtMs, 'heard', heard)
if stock then redis.call('HSET', couponKey, 'stock', string.format('%.0f', stock)) end
if maxPerSecond ~= '' then
  redis.call('HSET', couponKey, 'maxConcurrent', maxConcurrent, 'maxPerSecond', maxPerSecond, 'maxWaitMs', maxWaitMs)
  redis.call('PEXPIRE', endedKey, 60000)
end
if quotaPerDay ~= '' then redis.call('HSET', couponKey, 'quotaPerDay', quotaPerDay) end
redis.call('PEXPIREAT', couponKey, keepUntilMs)
redis.call('PEXPIREAT', holdersKey, keepUntilMs)
redis.call('UNLINK', loadingKey, lateKey)
return { 'INSTALLED' }
