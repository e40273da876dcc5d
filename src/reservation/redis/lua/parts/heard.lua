-- Of which numbers of what was given back a copy has heard (see GiveBack in port.ts), for the scripts that include this. As text: ranges
-- `first-last` in their order, with a blank between two. The first begins at 0; what is missing before another one was never told,
-- or is on its way.

-- As many ranges are kept. What would be one more is forgotten, and then the copy is loaded anew for it.
local maxRanges = 100

local function hear(heard, number)
  local first, last, before, after = number, number, {}, {}
  for a, b in string.gmatch(heard, '(%d+)-(%d+)') do
    a, b = tonumber(a), tonumber(b)
    if b < first - 1 then
      before[#before + 1] = string.format('%.0f-%.0f', a, b)
    elseif a > last + 1 then
      after[#after + 1] = string.format('%.0f-%.0f', a, b)
    else
      first, last = math.min(first, a), math.max(last, b)
    end
  end
  if #before + #after >= maxRanges then return heard end
  before[#before + 1] = string.format('%.0f-%.0f', first, last)
  for _, range in ipairs(after) do before[#before + 1] = range end
  return table.concat(before, ' ')
end
