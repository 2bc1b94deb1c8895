
local generation, id = arg(), arg()
load()
if not s or s.generation ~= generation then
  return { 'lost' }
end
local gone = s.members[id]
if not gone or gone.here then
  return { 'stale' }
end
for _, field in ipairs(redis.call('HKEYS', K)) do
  if string.sub(field, 1, 2) == 'c:' then
    local c = counter(field)
    local known, before = 0, 0
    for _, h in ipairs(c.holders) do
      known = known + h[2]
      if h[1] == WRITTEN_OFF then
        before = h[2]
      end
    end
    if c.seen > known then
      set(field, c, WRITTEN_OFF, before + c.seen - known, before + c.seen - known)
    end
  end
end
gone.till = 0
save()
return told(id, '0', {})
