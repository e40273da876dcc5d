-- Adds what users hold to a load under way, packed as packed-holdings.ts says. O(number of buckets), at most 1,000.
-- KEYS: loading stage
-- ARGV: token stepTimeoutMs (bucket packed)...
-- OUTCOMES: LOADING LOST
local loadingKey, stageKey = KEYS[1], KEYS[2]
local token, stepTimeoutMs = ARGV[1], ARGV[2]

if redis.call('GET', loadingKey) ~= token then return 'LOST' end
redis.call('PEXPIRE', loadingKey, stepTimeoutMs)
if #ARGV > 2 then
  local fields, entries = {}, {}
  for i = 3, #ARGV, 2 do fields[#fields + 1] = struct.pack('>BI3', 1, tonumber(ARGV[i])) end
  -- Hardly ever is there something: what a bucket has comes in one call.
  local before = redis.call('HMGET', stageKey, unpack(fields))
  for i = 1, #fields do
    entries[i * 2 - 1] = fields[i]
    entries[i * 2] = (before[i] or '') .. ARGV[i * 2 + 2]
  end
  redis.call('HSET', stageKey, unpack(entries))
  redis.call('PEXPIRE', stageKey, stepTimeoutMs * 2)
end
return 'LOADING'
