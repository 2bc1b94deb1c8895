
-- What all scripts of budgets go on with. The state is one hash, so that all of it is lost or nothing: `g` is the generation, `m` the members, one a line, and
-- `c:...` a counter in a window each.
local LEASE, PATIENCE, SETTLE, UNSURE, NEXT, KEEP = number(), number(), number(), number(), number(), number()
local MOST, HUNGRY, FOREVER, SWEPT_AFTER, PER_START = number(), number(), number(), number(), number()
-- Who holds what members are taken to have spent that never told.
local WRITTEN_OFF = 'written-off'

local s
local function load()
  local g = redis.call('HGET', K, 'g')
  if not g then
    return
  end
  local generation, of, began, version, sure, epoch = string.match(g, '^(%S+) (%S+) (%d+) (%d+) (%d) (%d+)$')
  if of ~= run then
    return
  end
  s = { generation = generation, began = tonumber(began), version = tonumber(version), sure = sure == '1', epoch = tonumber(epoch), ids = {}, members = {} }
  for line in string.gmatch(redis.call('HGET', K, 'm') or '', '[^\n]+') do
    local id, name, life, seq, expires, join, ack, till, here = string.match(line, '^(%S+) (%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d)$')
    s.ids[#s.ids + 1] = id
    s.members[id] = {
      name = name, life = life, seq = tonumber(seq), expires = tonumber(expires), join = tonumber(join), ack = tonumber(ack), till = tonumber(till), here = here == '1'
    }
  end
end

local function save()
  local lines = {}
  table.sort(s.ids)
  for i, id in ipairs(s.ids) do
    local m = s.members[id]
    lines[i] = table.concat({ id, m.name, m.life, text(m.seq), text(m.expires), text(m.join), text(m.ack), text(m.till), flag(m.here) }, ' ')
  end
  redis.call('HSET', K, 'g', table.concat({ s.generation, run, text(s.began), text(s.version), flag(s.sure), text(s.epoch) }, ' '), 'm', table.concat(lines, '\n'))
end

local function seat(id, name, till)
  if not s.members[id] then
    s.ids[#s.ids + 1] = id
    s.members[id] = { name = name, life = '-', seq = 0, expires = 0, join = 0, ack = 0, till = till, here = false }
  end
  return s.members[id]
end

-- A counter: until when it is hungry, what was seen of it before, and who holds how much and has spent how much.
local function counter(field)
  local c = { hungry = 0, seen = 0, holders = {} }
  local value = redis.call('HGET', K, field)
  if value then
    local hungry, seen, rest = string.match(value, '^(%d+) (%d+)(.*)$')
    c.hungry, c.seen = tonumber(hungry), tonumber(seen)
    for id, allowance, used in string.gmatch(rest, ' ([^ :]+):(%d+):(%d+)') do
      c.holders[#c.holders + 1] = { id, tonumber(allowance), tonumber(used) }
    end
  end
  return c
end

-- Sets what a member holds; what is told of the counter.
local function set(field, c, id, allowance, used)
  local out, holders = {}, {}
  for _, h in ipairs(c.holders) do
    if h[1] ~= id then
      holders[#holders + 1] = h
    end
  end
  if allowance > 0 or used > 0 then
    holders[#holders + 1] = { id, allowance, used }
  end
  for i, h in ipairs(holders) do
    out[i] = ' ' .. h[1] .. ':' .. text(h[2]) .. ':' .. text(h[3])
  end
  local value = text(c.hungry) .. ' ' .. text(c.seen) .. table.concat(out)
  redis.call('HSET', K, field, value)
  return value
end

local function keeps(id, ends, allowance)
  if allowance > 0 and ends >= FOREVER then
    s.members[id].till = FOREVER
  end
end

local function settled()
  return now >= s.began + (s.sure and SETTLE or UNSURE)
end

local function whole()
  if not settled() then
    return false
  end
  for _, m in pairs(s.members) do
    if not m.here and m.till >= now then
      return false
    end
  end
  return true
end

local function joined(id)
  local me = s.members[id]
  if not me then
    return false
  end
  for other, m in pairs(s.members) do
    if other ~= id and m.here and m.expires + PATIENCE > now and m.ack < me.join then
      return false
    end
  end
  return true
end

local function told(id, swept, lines)
  local members = {}
  for i, other in ipairs(s.ids) do
    local m = s.members[other]
    members[i] = table.concat({ other, m.name, text(m.till), text(m.expires), flag(m.here) }, ' ')
  end
  local answer = { 'fine', s.generation, text(s.epoch), text(now), text(s.version), flag(whole()), flag(joined(id)), swept, table.concat(members, '\n') }
  for _, line in ipairs(lines) do
    answer[#answer + 1] = line
  end
  return answer
end
