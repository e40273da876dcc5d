-- Holdings of one coupon, for the scripts that include this after their keys. The hash `holders` has, by field:
--   user id                 entries as text, `userCouponId US requestId US state US validUntilMs RS`; state P (pending), C (confirmed)
--   \1 and a number         a bucket: entries of all users whose hash has this number as its lower bits, packed as
--                           packed-holdings.ts says
--   '' (no user's id)       how many buckets there are
-- In a bucket there are entries of nobody, too: requests whose user coupons are not held any more, and ends of ids of user coupons that
-- were given back before their confirmation came. There are `maxGiven` of them at most;
-- in the place of more there is one of any request.
-- Replicas of before buckets know the first only. What they load has nothing else, and is kept in their form. What we load
-- is packed, and as text is only what was carried over without the hash of its request.
local floor = math.floor
local maxGiven, seldomFullBytes = 256, 256 * 18
local anyRequest, endOfNobody = string.rep('\255', 8), string.rep('\0', 8)

local function bucketField(number) return struct.pack('>BI3', 1, number) end

local function packHash(requestHash)
  return struct.pack('>I4I4', tonumber(string.sub(requestHash, 1, 8), 16), tonumber(string.sub(requestHash, 9), 16))
end

local function packEntry(userId, userCouponId, requestHash, state, validUntilMs)
  local head, hex, tail = #userId, string.gsub(userCouponId, '-', ''), ''
  if state == 'P' then head = head + 4096 end
  if validUntilMs ~= '0' then
    head = head + 2048
    tail = struct.pack('>I2I4', floor(validUntilMs / 4294967296), validUntilMs % 4294967296)
  end
  if requestHash ~= '' then
    head = head + 1024
    tail = packHash(requestHash) .. tail
  end
  return struct.pack('>I2', head) .. userId .. struct.pack('>I4I4I4I4', tonumber(string.sub(hex, 1, 8), 16),
    tonumber(string.sub(hex, 9, 16), 16), tonumber(string.sub(hex, 17, 24), 16), tonumber(string.sub(hex, 25), 16)) .. tail
end

local function lengthAt(bucket, at)
  local high, low = string.byte(bucket, at, at + 1)
  local flags, length = floor(high / 4), high % 4 * 256 + low
  return 18 + length + flags % 2 * 8 + floor(flags / 2) % 2 * 6, length
end

-- The bucket with one entry of nobody more.
local function withGiven(bucket, packedHash)
  if #bucket >= seldomFullBytes then
    local others, count, at = {}, 0, 1
    while at <= #bucket do
      local bytes, length = lengthAt(bucket, at)
      if length == 0 then count = count + 1 else others[#others + 1] = string.sub(bucket, at, at + bytes - 1) end
      at = at + bytes
    end
    if count >= maxGiven then bucket, packedHash = table.concat(others), anyRequest end
  end
  return bucket .. '\0\0' .. packedHash .. endOfNobody
end

local function textEntry(userCouponId, requestId, state, validUntilMs)
  return userCouponId .. '\31' .. requestId .. '\31' .. state .. '\31' .. validUntilMs .. '\30'
end

-- Adds what one user holds to `entries`; answers what is left of the bucket without it. An id that stands anywhere may be part
-- of another one, or chance: it is the user's where an entry begins with it. What lies between is passed over.
local function splitBucket(bucket, userId, entries)
  local found = string.find(bucket, userId, 1, true)
  if not found then return bucket end
  local at, keptFrom, others = 1, 1, {}
  while found and at <= #bucket do
    local high, low = string.byte(bucket, at, at + 1)
    local flags, length = floor(high / 4), high % 4 * 256 + low
    local hasRequest, hasEnd = flags % 2 == 1, floor(flags / 2) % 2 == 1
    local userAt, idAt = at + 2, at + 2 + length
    local nextAt = idAt + 16 + (hasRequest and 8 or 0) + (hasEnd and 6 or 0)
    while found and found < userAt do found = string.find(bucket, userId, found + 1, true) end
    if found == userAt and length == #userId then
      local entry = { packed = string.sub(bucket, at, nextAt - 1), state = flags >= 4 and 'P' or 'C', validUntilMs = 0 }
      entry.id = string.format('%08x-%04x-%04x-%04x-%04x%08x', struct.unpack('>I4I2I2I2I2I4', bucket, idAt))
      if hasRequest then entry.requestHash = string.format('%08x%08x', struct.unpack('>I4I4', bucket, idAt + 16)) end
      if hasEnd then
        local above, below = struct.unpack('>I2I4', bucket, nextAt - 6)
        entry.validUntilMs = above * 4294967296 + below
      end
      entries[#entries + 1] = entry
      others[#others + 1] = string.sub(bucket, keptFrom, at - 1)
      keptFrom = nextAt
    end
    at = nextAt
  end
  others[#others + 1] = string.sub(bucket, keptFrom)
  return table.concat(others)
end

-- Reads what these users hold. `bucketCount`: nil where nothing is packed. Answers nothing when this is no copy any more.
local function openHoldings(users, hashes, bucketCount)
  local fields, content, changed, buckets = { '' }, {}, {}, {}
  for i = 1, #users do
    fields[#fields + 1] = users[i]
    if bucketCount then
      buckets[i] = bucketField(hashes[i] % bucketCount)
      fields[#fields + 1] = buckets[i]
    end
  end
  local stored = redis.call('HMGET', holdersKey, unpack(fields))
  if bucketCount and not stored[1] then return nil end
  for i = 2, #fields do content[fields[i]] = stored[i] or '' end

  local book, others = {}, {}

  -- Entries of one user, as tables: id, requestId or requestHash, state, validUntilMs (0: no end).
  function book.find(i)
    local userId, entries = users[i], {}
    if bucketCount then others[i] = splitBucket(content[buckets[i]], userId, entries) end
    if content[userId] ~= '' then
      for raw, id, requestId, state, validUntilMs in string.gmatch(content[userId], '(([^\31]*)\31([^\31]*)\31(%a)\31(%d+)\30)') do
        entries[#entries + 1] = { text = raw, id = id, requestId = requestId, state = state, validUntilMs = tonumber(validUntilMs) }
      end
    end
    return entries
  end

  function book.entry(i, userCouponId, requestId, requestHash, state, validUntilMs)
    if bucketCount then return packEntry(users[i], userCouponId, requestHash, state, validUntilMs) end
    return textEntry(userCouponId, requestId, state, validUntilMs)
  end

  -- After find(): the user holds these entries, and one more if it is given.
  function book.put(i, entries, added)
    local packed, texts = {}, {}
    for _, entry in ipairs(entries) do
      if entry.packed then packed[#packed + 1] = entry.packed else texts[#texts + 1] = entry.text end
    end
    if bucketCount then
      if added then packed[#packed + 1] = added end
      content[buckets[i]] = others[i] .. table.concat(packed)
      changed[buckets[i]] = true
    elseif added then
      texts[#texts + 1] = added
    end
    if content[users[i]] ~= '' or #texts > 0 then
      content[users[i]] = table.concat(texts)
      changed[users[i]] = true
    end
  end

  -- After find(), which did not find it: what was carried over, whose request is known and not its hash.
  function book.carry(i, text)
    content[users[i]] = content[users[i]] .. text
    changed[users[i]] = true
  end

  -- Whether a user coupon that the request had issued is held no more, or may be. Not looked at by entries, of which others may have the
  -- same bytes by chance: whoever is told yes has Postgres asked.
  function book.wasGiven(i, requestHash)
    local bucket = bucketCount and requestHash ~= '' and content[buckets[i]]
    -- Hardly any bucket has an entry of nobody, and this is asked for each refusal of a sale.
    if not bucket or not string.find(bucket, endOfNobody, 1, true) then return false end
    return string.find(bucket, packHash(requestHash), 1, true) or string.find(bucket, anyRequest, 1, true)
  end

  local function packIdEnd(userCouponId)
    return packHash(string.sub((string.gsub(userCouponId, '-', '')), -16))
  end

  -- After find(): whether the confirmation that comes now was held up.
  function book.wasGivenBefore(i, userCouponId)
    local bucket = bucketCount and content[buckets[i]]
    if not bucket or not string.find(bucket, endOfNobody, 1, true) then return false end
    return string.find(bucket, packIdEnd(userCouponId) .. endOfNobody, 1, true) ~= nil
  end

  local function giveHash(i, packedHash)
    if not bucketCount then return end
    local bucket = content[buckets[i]]
    if string.find(bucket, packedHash, 1, true) or string.find(bucket, anyRequest, 1, true) then return end
    content[buckets[i]] = withGiven(bucket, packedHash)
    changed[buckets[i]] = true
  end

  -- After find() and put(): it is held no more. `requestHash`: nil where it is not known.
  function book.give(i, requestHash)
    if requestHash ~= '' then giveHash(i, requestHash and packHash(requestHash) or anyRequest) end
  end

  -- The same of one whose confirmation may still come.
  function book.giveBefore(i, userCouponId)
    giveHash(i, packIdEnd(userCouponId))
  end

  -- The same of an entry. One that was carried over has its request, and not the hash.
  function book.giveEntry(i, entry)
    if entry.requestHash or (entry.requestId or '') ~= '' then book.give(i, entry.requestHash) end
  end

  function book.write()
    local set, gone = {}, {}
    for field in pairs(changed) do
      if content[field] == '' then
        gone[#gone + 1] = field
      else
        set[#set + 1] = field
        set[#set + 1] = content[field]
      end
    end
    if #set > 0 then redis.call('HSET', holdersKey, unpack(set)) end
    if #gone > 0 then redis.call('HDEL', holdersKey, unpack(gone)) end
  end

  return book
end
