-- Lets requests for one coupon through, or says why not. O(number of requests), at most 128.
-- KEYS: coupon holders pending quota queue ended hashes
-- ARGV: databaseMs clockOffsetMs reservationMs ticketSlack secondMs keepQuotaMs (userCouponId userId requestId ticket patienceMs userHash requestHash)...
-- OUTCOMES: RESERVED REPLAY IN_FLIGHT GIVEN_BACK UNDECIDED NOT_LOADED WAIT THROTTLED COUPON_NOT_FOUND COUPON_PAUSED COUPON_NOT_STARTED COUPON_ENDED USAGE_CAP_REACHED ALREADY_ISSUED QUOTA_REACHED SOLD_OUT
-- Returns one outcome for each request, in order. After a blank each: REPLAY is followed by the user coupon's id, WAIT by waitMs
-- and ticket, THROTTLED by waitMs and queueMs, RESERVED of a throttled coupon by its ticket.
local couponKey, holdersKey, pendingKey, quotaKey, queueKey, endedKey, hashesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
-- INCLUDE holdings
local databaseMs, clockOffsetMs, reservationMs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ticketSlack, secondMs, keepQuotaMs = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local requestCount = (#ARGV - 6) / 7
-- Longer than anybody waits in a queue, and than a reservation lasts.
local keepQueueMs, keepHashesMs = 600000, 600000

-- Deadlines and tickets are by this clock. What Postgres has said until when it holds is judged by the time there.
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000) + clockOffsetMs

local facts = redis.call('HMGET', couponKey, 'startsAtMs', 'expiresAtMs', 'paused', 'deleted', 'maxPerUser', 'stock', 'keepUntilMs', 'exhausted',
  'maxPerSecond', 'maxConcurrent', 'maxWaitMs', 'quotaPerDay', 'opensAtMs', 'bucketCount')
local startsAtMs, expiresAtMs = tonumber(facts[13] or facts[1]), tonumber(facts[2])
local outcomes, users, hashes = {}, {}, {}
for i = 1, requestCount do
  users[i], hashes[i] = ARGV[i * 7 + 1], tonumber(ARGV[i * 7 + 5])
end
local book = startsAtMs and openHoldings(users, hashes, tonumber(facts[14]))
if not book then
  for i = 1, requestCount do outcomes[i] = 'NOT_LOADED' end
  return outcomes
end
local maxPerUser, stock = tonumber(facts[5]), tonumber(facts[6])
local maxPerSecond, maxConcurrent, maxWaitMs, quotaPerDay = tonumber(facts[9]), tonumber(facts[10]), tonumber(facts[11]), tonumber(facts[12])

-- The refusal that holds for everybody who is not repeating a request.
local closed = facts[4] == '1' and 'COUPON_NOT_FOUND'
  or facts[3] == '1' and 'COUPON_PAUSED'
  or databaseMs < startsAtMs and 'COUPON_NOT_STARTED'
  or databaseMs >= expiresAtMs and 'COUPON_ENDED'
  or facts[8] == '1' and 'USAGE_CAP_REACHED'

local storedDays = quotaPerDay and redis.call('HMGET', quotaKey, unpack(users))

-- What this call changes: it is written at the end, in a few commands.
local days, reserved, hashed, taken = {}, {}, {}, 0

-- Where nothing is left before this call: later there is also what it takes.
local pendingCount = (maxPerSecond or stock and stock <= 0) and redis.call('ZCARD', pendingKey) or 0
local interval, nextTicket, behind, moved = 0, 0, 0, false
if maxPerSecond then
  local queued = redis.call('HMGET', queueKey, 'next', 'behind')
  nextTicket, behind = tonumber(queued[1]) or 0, tonumber(queued[2]) or 0
  interval = 1000 * (1 + ticketSlack) / maxPerSecond
end

-- How long no other may begin. What is pending and what has ended within a second counts: so it is never more a second
-- when they begin, nor when Postgres issues them.
local function busyMs()
  local begun = pendingCount + taken
  if begun >= maxConcurrent or begun >= maxPerSecond then return interval end
  local endedMs = tonumber(redis.call('LINDEX', endedKey, maxPerSecond - begun - 1))
  return endedMs and math.max(0, endedMs + secondMs - nowMs) or 0
end

-- The queue has a clock of its own, which stands still while the first in it may not begin: everybody behind moves back
-- with it, and nobody is overtaken. Answers the ticket, and an outcome if this is not the moment to begin.
local function join(ticket, patienceMs)
  local isNew, clockMs, stopMs = not ticket, nowMs - behind, 0
  ticket = ticket or math.max(nextTicket, clockMs)
  local waitMs = ticket - clockMs
  if waitMs <= 0 then
    stopMs = busyMs()
    waitMs = stopMs
  end
  local limitMs = math.min(patienceMs or maxWaitMs, isNew and maxWaitMs or math.huge)
  if waitMs > 0 and waitMs > limitMs then return ticket, 'THROTTLED ' .. math.ceil(waitMs - limitMs) .. ' ' .. math.ceil(limitMs) end
  if isNew then nextTicket = ticket + interval end
  if stopMs > 0 then behind = nowMs + stopMs - ticket end
  moved = moved or isNew or stopMs > 0
  if waitMs > 0 then return ticket, 'WAIT ' .. math.ceil(waitMs) .. string.format(' %.2f', ticket) end
  return ticket
end

local function quotaRefusal(ofDay)
  local count, undecided = 0, 0
  for state in string.gmatch(ofDay, '\31(%a)\30') do
    count = count + 1
    if state == 'P' then undecided = undecided + 1 end
  end
  if count >= quotaPerDay then return count - undecided < quotaPerDay and 'IN_FLIGHT' or 'QUOTA_REACHED' end
end

-- What is pending may come back: a no for want of stock is only final when nothing is.
local function stockRefusal()
  if stock - taken <= 0 then return pendingCount + taken > 0 and 'UNDECIDED' or 'SOLD_OUT' end
end

for i = 1, requestCount do
  local userCouponId, userId, requestId, requestHash = ARGV[i * 7], users[i], ARGV[i * 7 + 2], ARGV[i * 7 + 6]
  local outcome
  local live, undecided, kept, expired = 0, 0, {}, {}
  for _, entry in ipairs(book.find(i)) do
    if requestId ~= '' and (entry.requestId == requestId or entry.requestHash == requestHash) then
      outcome = entry.state == 'P' and 'IN_FLIGHT' or 'REPLAY ' .. entry.id
    end
    if entry.state == 'P' or entry.validUntilMs == 0 or entry.validUntilMs > databaseMs then
      live = live + 1
      if entry.state == 'P' then undecided = undecided + 1 end
      kept[#kept + 1] = entry
    else
      expired[#expired + 1] = entry
    end
  end
  if not outcome then
    local ticket
    local ofDay = quotaPerDay and (days[userId] or storedDays[i] or '')
    if closed then outcome = closed
    elseif live >= maxPerUser then
      outcome = live - undecided < maxPerUser and 'IN_FLIGHT' or 'ALREADY_ISSUED'
    else
      outcome = ofDay and quotaRefusal(ofDay) or stock and stockRefusal()
    end
    if outcome then
      if book.wasGiven(i, requestHash) then outcome = 'GIVEN_BACK' end
    elseif maxPerSecond then
      ticket, outcome = join(tonumber(ARGV[i * 7 + 3]), tonumber(ARGV[i * 7 + 4]))
    end
    if not outcome then
      outcome = ticket and 'RESERVED' .. string.format(' %.2f', ticket) or 'RESERVED'
      taken = taken + 1
      book.put(i, kept, book.entry(i, userCouponId, requestId, requestHash, 'P', '0'))
      for _, entry in ipairs(expired) do book.giveEntry(i, entry) end
      if ofDay then days[userId] = ofDay .. userCouponId .. '\31P\30' end
      reserved[#reserved + 1] = nowMs + reservationMs
      reserved[#reserved + 1] = userCouponId .. '\31' .. userId .. '\31' .. requestId
      hashed[#hashed + 1] = userId
      hashed[#hashed + 1] = hashes[i]
    end
  end
  outcomes[i] = outcome
end

local function flat(texts)
  local fields = {}
  for userId, text in pairs(texts) do
    fields[#fields + 1] = userId
    fields[#fields + 1] = text
  end
  return fields
end

if taken > 0 then
  book.write()
  if not facts[14] then redis.call('PEXPIREAT', holdersKey, facts[7]) end
  redis.call('HSET', hashesKey, unpack(hashed))
  redis.call('PEXPIRE', hashesKey, keepHashesMs)
  redis.call('ZADD', pendingKey, unpack(reserved))
  if stock then redis.call('HINCRBY', couponKey, 'stock', -taken) end
  if quotaPerDay then
    redis.call('HSET', quotaKey, unpack(flat(days)))
    redis.call('PEXPIRE', quotaKey, keepQuotaMs)
  end
end
if moved then
  redis.call('HSET', queueKey, 'next', string.format('%.2f', nextTicket), 'behind', string.format('%.2f', behind))
  redis.call('PEXPIRE', queueKey, keepQueueMs)
end
return outcomes
