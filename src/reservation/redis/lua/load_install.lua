-- Ends a load: from now on the coupon is known here. Settlements that arrived during the load and reservations that are
-- still pending are counted, unless what was read from Postgres has them already. O(late + pending).
-- KEYS: loading stage late coupon holders pending ended
-- ARGV: token clockOffsetMs keepMs revision startsAtMs expiresAtMs paused deleted exhausted maxPerUser stock maxConcurrent maxPerSecond maxWaitMs quotaPerDay
-- OUTCOMES: INSTALLED LOST
local loadingKey, stageKey, lateKey, couponKey, holdersKey, pendingKey, endedKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local token, clockOffsetMs, keepMs, revision = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local startsAtMs, expiresAtMs, paused, deleted, exhausted = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local maxPerUser, stock = ARGV[10], tonumber(ARGV[11])
local maxConcurrent, maxPerSecond, maxWaitMs, quotaPerDay = ARGV[12], ARGV[13], ARGV[14], ARGV[15]

if redis.call('GET', loadingKey) ~= token then return 'LOST' end

local time = redis.call('TIME')
local realNowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local keepUntilMs = string.format('%.0f', realNowMs + keepMs)

local late = redis.call('LRANGE', lateKey, 0, -1)
local pending = redis.call('ZRANGE', pendingKey, 0, -1)

redis.call('UNLINK', holdersKey, couponKey)
if redis.call('EXISTS', stageKey) == 1 then
  redis.call('RENAME', stageKey, holdersKey)
  redis.call('PERSIST', holdersKey)
end

local function adopt(userId, userCouponId, entry)
  local text = redis.call('HGET', holdersKey, userId) or ''
  if string.find(text, userCouponId .. '\31', 1, true) then return false end
  redis.call('HSET', holdersKey, userId, text .. entry)
  if stock then stock = stock - 1 end
  return true
end

for i = 1, #late, 4 do
  adopt(late[i], late[i + 1], late[i + 1] .. '\31' .. late[i + 2] .. '\31C\31' .. late[i + 3] .. '\30')
end
for _, member in ipairs(pending) do
  local userCouponId, userId, requestId = string.match(member, '^([^\31]*)\31([^\31]*)\31([^\31]*)$')
  if not adopt(userId, userCouponId, userCouponId .. '\31' .. requestId .. '\31P\0310\30') then
    redis.call('ZREM', pendingKey, member)
    if maxPerSecond ~= '' then redis.call('LPUSH', endedKey, string.format('%.0f', realNowMs + clockOffsetMs)) end
  end
end

redis.call('HSET', couponKey, 'revision', revision, 'startsAtMs', startsAtMs, 'expiresAtMs', expiresAtMs, 'paused', paused,
  'deleted', deleted, 'exhausted', exhausted, 'maxPerUser', maxPerUser, 'keepUntilMs', keepUntilMs)
if stock then redis.call('HSET', couponKey, 'stock', string.format('%.0f', stock)) end
if maxPerSecond ~= '' then
  redis.call('HSET', couponKey, 'maxConcurrent', maxConcurrent, 'maxPerSecond', maxPerSecond, 'maxWaitMs', maxWaitMs)
  redis.call('PEXPIRE', endedKey, 60000)
end
if quotaPerDay ~= '' then redis.call('HSET', couponKey, 'quotaPerDay', quotaPerDay) end
redis.call('PEXPIREAT', couponKey, keepUntilMs)
redis.call('PEXPIREAT', holdersKey, keepUntilMs)
redis.call('UNLINK', loadingKey, lateKey)
return 'INSTALLED'
