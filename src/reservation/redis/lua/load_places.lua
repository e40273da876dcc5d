-- Makes the places of one coupon known, unless they are. What was taken before is forgotten: it may be part of what is
-- loaded, and to count too few as taken does no harm. O(number taken).
-- KEYS: places taken
-- ARGV: revision remaining keepMs
-- OUTCOMES: LOADED PRESENT
local placesKey, takenKey = KEYS[1], KEYS[2]
local revision, remaining, keepMs = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', placesKey, 'revision') == revision then return 'PRESENT' end
redis.call('UNLINK', placesKey, takenKey)
redis.call('HSET', placesKey, 'revision', revision, 'remaining', remaining)
redis.call('PEXPIRE', placesKey, keepMs)
return 'LOADED'
