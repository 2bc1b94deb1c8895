
local id, name, life, seq, candidate, generation, heard, epoch = arg(), arg(), arg(), number(), arg(), arg(), arg(), number()
local sure, last = arg() == '1', arg() == '1'
load()
if generation == '' then
  -- The latter is a server that comes back with what it had before another one took its place.
  if not s or (s.generation ~= heard and s.epoch <= epoch) then
    redis.call('DEL', K)
    -- A name that no message which is under way can bear.
    s = { generation = time[1] .. '.' .. time[2] .. '-' .. candidate, began = now, version = 0, sure = false, epoch = epoch + 1, ids = {}, members = {} }
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
-- A process that takes the place of another has begun once more.
if me.life ~= life and me.life ~= '-' and math.floor(seq / PER_START) <= math.floor(me.seq / PER_START) then
  return { 'twin' }
end
me.life = life
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
