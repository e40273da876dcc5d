-- Lets asks for one coupon through, or says why not. O(number of asks), at most 128.
-- KEYS: coupon holders pending
-- ARGV: clockOffsetMs reservationMs (userCouponId userId requestId)...
-- OUTCOMES: RESERVED REPLAY IN_FLIGHT NOT_LOADED COUPON_NOT_FOUND COUPON_PAUSED COUPON_NOT_STARTED COUPON_ENDED USAGE_CAP_REACHED ALREADY_ISSUED SOLD_OUT
-- Returns one outcome for each ask, in order; REPLAY is followed by a blank and the user coupon's id.
local couponKey, holdersKey, pendingKey = KEYS[1], KEYS[2], KEYS[3]
local clockOffsetMs, reservationMs = tonumber(ARGV[1]), tonumber(ARGV[2])
local askCount = (#ARGV - 2) / 3

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local facts = redis.call('HMGET', couponKey, 'startsAtMs', 'expiresAtMs', 'paused', 'deleted', 'maxPerUser', 'stock', 'keepUntilMs', 'exhausted')
local startsAtMs, expiresAtMs = tonumber(facts[1]), tonumber(facts[2])
local outcomes = {}
if not startsAtMs then
  for i = 1, askCount do outcomes[i] = 'NOT_LOADED' end
  return outcomes
end
local maxPerUser, stock = tonumber(facts[5]), tonumber(facts[6])

-- The refusal that holds for everybody who is not repeating a request.
local closed = facts[4] == '1' and 'COUPON_NOT_FOUND'
  or facts[3] == '1' and 'COUPON_PAUSED'
  or nowMs < startsAtMs and 'COUPON_NOT_STARTED'
  or nowMs >= expiresAtMs and 'COUPON_ENDED'
  or facts[8] == '1' and 'USAGE_CAP_REACHED'

local users = {}
for i = 1, askCount do users[i] = ARGV[i * 3 + 1] end
local stored = redis.call('HMGET', holdersKey, unpack(users))

-- What this call changes: it is written at the end, in three commands.
local held, reserved, taken = {}, {}, 0

for i = 1, askCount do
  local userCouponId, userId, requestId = ARGV[i * 3], users[i], ARGV[i * 3 + 2]
  local text = held[userId] or stored[i] or ''
  local outcome
  local live, undecided, kept = 0, 0, {}
  for entry, id, request, state, validUntilMs in string.gmatch(text, '(([^\31]*)\31([^\31]*)\31(%a)\31(%d+)\30)') do
    if requestId ~= '' and request == requestId then
      outcome = state == 'P' and 'IN_FLIGHT' or 'REPLAY ' .. id
    end
    if state == 'P' or validUntilMs == '0' or tonumber(validUntilMs) > nowMs then
      live = live + 1
      if state == 'P' then undecided = undecided + 1 end
      kept[#kept + 1] = entry
    end
  end
  if not outcome then
    if closed then outcome = closed
    elseif live >= maxPerUser then
      outcome = live - undecided < maxPerUser and 'IN_FLIGHT' or 'ALREADY_ISSUED'
    elseif stock and stock - taken <= 0 then outcome = 'SOLD_OUT'
    else
      outcome = 'RESERVED'
      taken = taken + 1
      kept[#kept + 1] = userCouponId .. '\31' .. requestId .. '\31P\0310\30'
      held[userId] = table.concat(kept)
      reserved[#reserved + 1] = nowMs + reservationMs
      reserved[#reserved + 1] = userCouponId .. '\31' .. userId .. '\31' .. requestId
    end
  end
  outcomes[i] = outcome
end

if taken > 0 then
  local fields = {}
  for userId, text in pairs(held) do
    fields[#fields + 1] = userId
    fields[#fields + 1] = text
  end
  redis.call('HSET', holdersKey, unpack(fields))
  redis.call('PEXPIREAT', holdersKey, facts[7])
  redis.call('ZADD', pendingKey, unpack(reserved))
  if stock then redis.call('HINCRBY', couponKey, 'stock', -taken) end
end
return outcomes
