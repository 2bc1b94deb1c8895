
-- What `server.rs` beside this does, step by step. One hash, so that all of it is lost or nothing: `g` is the generation, `m` the members, one a line, and
-- `c:MARK` a counter each; `w` are those of which somebody lacks some, the latest first.
local LEASE, SETTLE, TERM, CLOSED, KEPT, FRESH, PATIENCE = number(), number(), number(), number(), number(), number(), number()
local MOST, WANTED, ALL = number(), number(), number()

local id, life, start, seq, generation, epoch = arg(), arg(), number(), number(), arg(), number()
local report, new, closing, alone, most = arg() == '1', arg() == '1', arg() == '1', number(), number()
local parts, sweep = { number(), number() }, arg()

-- The state.
local s
local g = redis.call('HGET', K, 'g')
local before = 0
if g then
  local name, of, began, number_, fresh = string.match(g, '^(%S+) (%S+) (%d+) (%d+) (%d)$')
  before = tonumber(number_)
  if of == run and (name == generation or before > epoch) then
    s = { generation = name, began = tonumber(began), epoch = before, fresh = fresh == '1', members = {} }
    for line in string.gmatch(redis.call('HGET', K, 'm') or '', '[^\n]+') do
      local words = {}
      for word in string.gmatch(line, '%S+') do
        words[#words + 1] = word
      end
      local n = function(i)
        return tonumber(words[i])
      end
      s.members[words[1]] = {
        life = words[2], start = n(3), seq = n(4), seen = n(5), till = n(6), here = words[7] == '1', closed = words[8] == '1',
        parts = { n(9), n(10) }, held = { n(11), n(12) }, held_till = n(13), lent_till = n(14), ready = n(15)
      }
    end
  end
end
if not s then
  redis.call('DEL', K)
  -- A name that no message which is under way can bear.
  s = { generation = time[1] .. '.' .. time[2] .. '-' .. string.sub(run, 1, 8), began = now, epoch = math.max(before, epoch) + 1, fresh = true, members = {} }
  redis.call('HSET', K, 'g', table.concat({ s.generation, run, text(now), text(s.epoch), '1' }, ' '))
end

local seat = s.members[id]
if generation ~= s.generation or not (report or (seat and seat.here)) then
  return { 'lost', s.generation, text(s.epoch) }
end
local function lives(m)
  return m.here and not m.closed and m.seen + LEASE > now
end
if seat and seat.here then
  local other = seat.life ~= life
  if other and (not report or (start < seat.start and lives(seat))) then
    return { 'twin' }
  end
  if not other and seq <= seat.seq then
    return { 'stale' }
  end
end
for name, m in pairs(s.members) do
  if m.till < now and name ~= id then
    s.members[name] = nil
  end
end
local function absent(p)
  return {
    life = '-', start = 0, seq = 0, seen = 0, till = 0, here = false, closed = false,
    parts = p, held = { 0, 0 }, held_till = 0, lent_till = 0, ready = 0
  }
end

-- A report.
local known = {}
for i = 1, number() do
  known[i] = { id = arg(), parts = { number(), number() }, left = number() }
end
if report then
  local count, strangers = 0, s.members[id] and 0 or 1
  for _ in pairs(s.members) do
    count = count + 1
  end
  for _, k in ipairs(known) do
    strangers = strangers + (s.members[k.id] and 0 or 1)
  end
  if count + strangers > MOST then
    return { 'full' }
  end
  s.fresh = s.fresh and new
  for _, k in ipairs(known) do
    if k.id ~= id then
      local m = s.members[k.id] or absent(k.parts)
      s.members[k.id] = m
      if not m.here then
        m.parts = { math.max(m.parts[1], k.parts[1]), math.max(m.parts[2], k.parts[2]) }
        m.till = math.max(m.till, now + k.left)
      end
    end
  end
  local m = s.members[id] or absent(parts)
  s.members[id] = m
  if m.here and m.life ~= life then
    m.ready = m.lent_till
  end
  if not m.here then
    m.parts = { parts[1], parts[2] }
  end
  m.life, m.start, m.here = life, start, true
end

-- What the member tells of itself.
local me = s.members[id]
local function holds(m, part)
  if m.held_till > now then
    return math.max(m.parts[part], m.held[part])
  end
  return m.parts[part]
end
me.seq, me.seen, me.closed = seq, now, closing
me.till = now + (closing and CLOSED or alone + KEPT)
local less = { math.min(parts[1], me.parts[1]), math.min(parts[2], me.parts[2]) }
if less[1] ~= me.parts[1] or less[2] ~= me.parts[2] then
  me.held = { holds(me, 1), holds(me, 2) }
  me.held_till, me.parts = now + TERM, less
end

local swept = '0'
if sweep ~= '' then
  local page = redis.call('HSCAN', K, sweep, 'COUNT', 256)
  swept = page[1]
  for i = 1, #page[2], 2 do
    if string.sub(page[2][i], 1, 2) == 'c:' then
      local over = true
      for till in string.gmatch(page[2][i + 1], '[^ :]+:%d+:(%d+):') do
        over = over and tonumber(till) <= now
      end
      if over then
        redis.call('HDEL', K, page[2][i])
      end
    end
  end
end

-- What it is given.
local settled = now >= s.began + SETTLE
local everybody, live, away, count = true, 0, { 0, 0 }, 0
for _ in pairs(s.members) do
  count = count + 1
end
-- Of one that has not told of itself others may have heard less than it was given last.
local function keeps(m, part)
  return m.here and m.parts[part] or math.max(m.parts[part], math.floor(ALL / count))
end
for _, m in pairs(s.members) do
  everybody = everybody and m.here
  if lives(m) then
    live = live + 1
  else
    away = { away[1] + keeps(m, 1), away[2] + keeps(m, 2) }
  end
end
local whole = settled and everybody
local open = settled and (everybody or now >= s.began + PATIENCE)
local targets = {}
for part = 1, 2 do
  targets[part] = math.min(math.floor(math.max(ALL - away[part], 0) / math.max(live, 1)), most)
end
local ready = now >= me.ready
if open and ready and not closing then
  for part = 1, 2 do
    local free = ALL
    for other, m in pairs(s.members) do
      if other ~= id then
        free = free - math.max(holds(m, part), keeps(m, part))
      end
    end
    local share = math.min(targets[part], free)
    -- With crumbs nobody could let a call through.
    if share * 2 >= targets[part] then
      me.parts[part] = math.max(me.parts[part], share)
    end
  end
end

-- Counters.
local function fair(all, wants)
  table.sort(wants, function(a, b)
    return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
  end)
  local left, open, mine = math.max(all, 0), #wants, 0
  for _, w in ipairs(wants) do
    local given = math.min(w[1], math.floor(left / open))
    if w[2] == id then
      mine = given
    end
    left, open = left - given, open - 1
  end
  return mine + math.floor(left / #wants)
end
local function uses(entry, part)
  return entry.lent and entry.rate or math.max(entry.rate, part)
end
local all = 0
for _, m in pairs(s.members) do
  all = all + m.parts[1]
end
local lends = settled and ready and not closing
local part = me.parts[1]
local lines, lacks = {}, {}
for mark, till in string.gmatch(redis.call('HGET', K, 'w') or '', '(%x+):(%d+)') do
  if tonumber(till) > now then
    lacks[mark] = tonumber(till)
  end
end
for i = 1, number() do
  local mark, claim, till, want = arg(), number(), number(), number()
  local field, entries = 'c:' .. mark, {}
  for who, rate, ends, wants, lent in string.gmatch(redis.call('HGET', K, field) or '', '([^ :]+):(%d+):(%d+):(%d+):(%d)') do
    if tonumber(ends) > now then
      entries[who] = { rate = tonumber(rate), ends = tonumber(ends), want = tonumber(wants), lent = lent == '1' }
    end
  end
  local used, silent, ends, wants = 0, 0, now + TERM, { { want, id } }
  for other, m in pairs(s.members) do
    if other ~= id then
      local entry = entries[other]
      if entry then
        used = used + uses(entry, m.parts[1])
        wants[#wants + 1] = { entry.want, other }
        if entry.lent then
          ends = math.min(ends, entry.ends)
        end
      else
        used, silent = used + m.parts[1], silent + m.parts[1]
      end
    end
  end
  local level = fair(all - silent, wants)
  local own = entries[id]
  local had = own and uses(own, part) or part
  -- What arrives after its time is no promise.
  if claim < part and till <= now then
    claim = part
  else
    claim = math.min(claim, math.max(had, part))
  end
  local rate = claim + (lends and math.max(math.min(level - claim, all - used - claim), 0) or 0)
  local lent, over = rate < part, ends
  if lent then
    over = till
    me.lent_till = math.max(me.lent_till, till)
  elseif own and claim > part and not own.lent then
    -- It may not hear this answer, and go on with what it had.
    over = math.max(ends, own.ends)
  end
  entries[id] = { rate = rate, ends = over, want = want, lent = lent }
  local out = {}
  for who, e in pairs(entries) do
    out[#out + 1] = table.concat({ who, text(e.rate), text(e.ends), text(e.want), flag(e.lent) }, ':')
  end
  redis.call('HSET', K, field, table.concat(out, ' '))
  if want > part then
    lacks[mark] = now + TERM
  end
  lines[i] = table.concat({ text(rate), text(ends - now), text(level) }, ' ')
end

local wanted = {}
for mark in pairs(lacks) do
  wanted[#wanted + 1] = mark
end
table.sort(wanted, function(a, b)
  return lacks[a] > lacks[b] or (lacks[a] == lacks[b] and a > b)
end)
local kept = {}
for i = 1, math.min(#wanted, WANTED) do
  kept[i] = wanted[i] .. ':' .. text(lacks[wanted[i]])
end
local saved, members, names = {}, {}, {}
for name in pairs(s.members) do
  names[#names + 1] = name
end
table.sort(names)
for i, name in ipairs(names) do
  local m = s.members[name]
  saved[i] = table.concat({
    name, m.life, text(m.start), text(m.seq), text(m.seen), text(m.till), flag(m.here), flag(m.closed),
    text(m.parts[1]), text(m.parts[2]), text(m.held[1]), text(m.held[2]), text(m.held_till), text(m.lent_till), text(m.ready)
  }, ' ')
  members[i] = table.concat({ name, text(m.parts[1]), text(m.parts[2]), text(math.max(m.till - now, 0)), flag(lives(m)), flag(m.here) }, ' ')
end
redis.call('HSET', K, 'g', table.concat({ s.generation, run, text(s.began), text(s.epoch), flag(s.fresh) }, ' '), 'm', table.concat(saved, '\n'), 'w', table.concat(kept, ' '))
local fresh = s.fresh and s.epoch == 1 and now < s.began + FRESH
local answer = {
  'fine', s.generation, text(s.epoch), text(now), flag(fresh), flag(whole), flag(ready), text(me.parts[1]), text(me.parts[2]),
  text(targets[1]), text(targets[2]), swept, table.concat(members, '\n'), table.concat(lines, '\n'),
  table.concat(wanted, ' ', 1, #kept)
}
return answer
