
local id, name, seq, candidate, generation, sure, last = arg(), arg(), number(), arg(), arg(), arg() == '1', arg() == '1'
load()
if generation == '' then
  if not s then
    redis.call('DEL', K)
    -- A name that no message which is under way can bear.
    s = { generation = time[1] .. '.' .. time[2] .. '-' .. candidate, began = now, version = 0, sure = false, ids = {}, members = {} }
    save()
  end
  return told(id, '0', {})
end
if not s or s.generation ~= generation then
  return { 'lost' }
end
local known = {}
for i = 1, number() do
  known[i] = { arg(), arg(), number() }
end
local strangers = s.members[id] and 0 or 1
for _, k in ipairs(known) do
  strangers = strangers + (s.members[k[1]] and 0 or 1)
end
if #s.ids + strangers > MOST then
  return { 'full' }
end
local me = seat(id, name, 0)
if seq <= me.seq then
  return { 'stale' }
end
me.name, me.seq, me.expires, me.till = name, seq, now + LEASE, math.max(me.till, now + KEEP)
for _, k in ipairs(known) do
  seat(k[1], k[2], k[3])
end
for _ = 1, number() do
  local field, ends, claim, used, seen = arg(), number(), number(), number(), number()
  local c = counter(field)
  c.seen = math.max(c.seen, seen)
  set(field, c, id, claim, used)
  keeps(id, ends, claim)
end
if last then
  s.sure = s.sure or sure
  if not me.here then
    s.version = s.version + 1
    me.here, me.join = true, s.version
  end
end
save()
return told(id, '0', {})
