-- Confirms or releases places of one coupon after Postgres has decided. O(number of settlements * log n), at most 128.
-- Void for places that are not pending here: then more may be let through than there are places, and Postgres refuses.
-- KEYS: places taken
-- ARGV: (outcome usageId)...
-- OUTCOMES: SETTLED
local placesKey, takenKey = KEYS[1], KEYS[2]
local given = 0

for i = 1, #ARGV, 2 do
  local outcome, usageId = ARGV[i], ARGV[i + 1]
  if redis.call('ZREM', takenKey, usageId) == 1 and outcome == 'RELEASE' then given = given + 1 end
end

if given > 0 and redis.call('EXISTS', placesKey) == 1 then redis.call('HINCRBY', placesKey, 'remaining', given) end
return 'SETTLED'
