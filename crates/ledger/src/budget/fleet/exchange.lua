
local id, life, seq, generation, ack, closing, sweep = arg(), arg(), number(), arg(), number(), arg() == '1', arg()
load()
if not s or s.generation ~= generation then
  return { 'lost' }
end
local me = s.members[id]
if not me or not me.here then
  return { 'lost' }
end
if seq <= me.seq then
  return { 'stale' }
end
if me.life ~= life then
  return { 'twin' }
end
me.seq, me.expires, me.ack, me.till = seq, closing and 0 or now + LEASE, math.max(me.ack, ack), math.max(me.till, now + KEEP)
local swept = '0'
if sweep ~= '' then
  local page = redis.call('HSCAN', K, sweep, 'COUNT', 64)
  swept = page[1]
  for i = 1, #page[2], 2 do
    local ends = string.match(page[2][i], '^c:(%d+):')
    if ends and tonumber(ends) + SWEPT_AFTER < now then
      redis.call('HDEL', K, page[2][i])
    end
  end
  local ids = {}
  for _, other in ipairs(s.ids) do
    if s.members[other].till >= now then
      ids[#ids + 1] = other
    else
      s.members[other] = nil
    end
  end
  s.ids = ids
end
local live = 0
for _, m in pairs(s.members) do
  live = live + ((m.here and m.expires > now) and 1 or 0)
end
live = math.max(live, 1)
local lines = {}
for i = 1, number() do
  local field, start, ends, limit, claim, need, want, must, used = arg(), number(), number(), number(), number(), number(), number(), number(), number()
  local open = joined(id) and settled() and (whole() or start > s.began + NEXT)
  local c = counter(field)
  local others = 0
  for _, h in ipairs(c.holders) do
    if h[1] ~= id then
      others = others + h[2]
    end
  end
  local allowance = math.max(claim, must)
  local withheld = want > allowance and not open
  if want > allowance and open then
    local room = math.max(limit - others - allowance, 0)
    local needed = math.max(need - allowance, 0)
    if needed > room then
      c.hungry = now + HUNGRY
    else
      local share = math.floor((room - needed) / (2 * live))
      allowance = allowance + needed + math.min(math.max(want - allowance - needed, 0), share)
    end
  end
  lines[i] = flag(withheld) .. ' ' .. set(field, c, id, allowance, used)
  keeps(id, ends, allowance)
end
save()
return told(id, swept, lines)
