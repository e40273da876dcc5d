-- Adds what users hold to a load under way. Entries of one user must come in one call. O(number of users), at most 1,000.
-- KEYS: loading stage
-- ARGV: token stepTimeoutMs (userId entries)...
-- OUTCOMES: LOADING LOST
local loadingKey, stageKey = KEYS[1], KEYS[2]
local token, stepTimeoutMs = ARGV[1], ARGV[2]

if redis.call('GET', loadingKey) ~= token then return 'LOST' end
redis.call('PEXPIRE', loadingKey, stepTimeoutMs)
if #ARGV > 2 then
  redis.call('HSET', stageKey, unpack(ARGV, 3))
  redis.call('PEXPIRE', stageKey, stepTimeoutMs * 2)
end
return 'LOADING'
