-- Starts to load one coupon, unless another load of it is under way. O(1).
-- KEYS: loading stage late
-- ARGV: token stepTimeoutMs
-- OUTCOMES: LOADING BUSY
local loadingKey, stageKey, lateKey = KEYS[1], KEYS[2], KEYS[3]
local token, stepTimeoutMs = ARGV[1], ARGV[2]

if not redis.call('SET', loadingKey, token, 'NX', 'PX', stepTimeoutMs) then return 'BUSY' end
redis.call('UNLINK', stageKey, lateKey)
return 'LOADING'
