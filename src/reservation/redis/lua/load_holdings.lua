-- Adds what users hold to a load under way, packed as packed-holdings.ts says. O(number of buckets), at most 1,000.
-- KEYS: loading stage
-- ARGV: token stepTimeoutMs buckets
-- OUTCOMES: LOADING LOST
-- `buckets` has of each its number and its length, four bytes each, and what it holds.
local loadingKey, stageKey = KEYS[1], KEYS[2]
local token, stepTimeoutMs, buckets = ARGV[1], ARGV[2], ARGV[3]

if redis.call('GET', loadingKey) ~= token then return 'LOST' end
redis.call('PEXPIRE', loadingKey, stepTimeoutMs)
if #buckets > 0 then
  local fields, packed, entries, at = {}, {}, {}, 1
  while at <= #buckets do
    local number, length = struct.unpack('>I4I4', buckets, at)
    fields[#fields + 1] = struct.pack('>BI3', 1, number)
    packed[#packed + 1] = string.sub(buckets, at + 8, at + 7 + length)
    at = at + 8 + length
  end
  -- Hardly ever is there something: what a bucket has comes in one call.
  local before = redis.call('HMGET', stageKey, unpack(fields))
  for i = 1, #fields do
    entries[i * 2 - 1] = fields[i]
    entries[i * 2] = (before[i] or '') .. packed[i]
  end
  redis.call('HSET', stageKey, unpack(entries))
  redis.call('PEXPIRE', stageKey, stepTimeoutMs * 2)
end
return 'LOADING'
