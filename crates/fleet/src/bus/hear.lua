-- What was told after a number. KEYS: stream, flags, members. ARGV: the number (0: none), its nonce, a nonce for a new beginning, most messages,
-- most messages kept, this member, what it says of itself, the number of a message that it has told itself beyond that (0: none), its nonce.
local stream = KEYS[1]
local function text(n) return string.format('%.0f', n) end
local function number(entry) return tonumber(string.match(entry[1], '^%d+')) end
local function field(entry, name)
  for i = 1, #entry[2], 2 do if entry[2][i] == name then return entry[2][i + 1] end end
end
local function at(n) return redis.call('XRANGE', stream, text(n) .. '-0', text(n) .. '-0')[1] end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known, told = tonumber(ARGV[1]), tonumber(ARGV[8])
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local oldest = last and number(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1])
-- What is older than all that is kept may have been trimmed.
local function lacks(n, nonce)
  if n == 0 then return false end
  if number(last) < n then return true end
  local there = at(n)
  if there then return field(there, 'n') ~= nonce end
  return oldest <= n
end
-- Emptied, or another history than the one that was heard: whatever was told may be lost.
local newest = last and number(last)
local lost = not last or lacks(known, ARGV[2]) or lacks(told, ARGV[9])
-- What it does not lack it has, unless that may have been trimmed.
local follows = not lost and known > 0 and oldest <= known
if lost then
  local first = math.max(now, known + 1, told + 1)
  if last then first = math.max(first, number(last) + 1) end
  redis.call('XADD', stream, 'MAXLEN', ARGV[5], text(first) .. '-0', 'n', ARGV[3], 'g', '1')
  newest = first
end
local entries = redis.call('XRANGE', stream, follows and text(known + 1) .. '-0' or '-', '+', 'COUNT', ARGV[4])

-- A server without room still tells what it knows; one that may not write (a master without its replicas) does not know what others were told.
local noted = redis.pcall('HSET', KEYS[3], ARGV[6], text(now) .. ' ' .. ARGV[7])
if type(noted) == 'table' and noted.err and not string.find(noted.err, 'OOM') then return noted end
local all, members = redis.call('HGETALL', KEYS[3]), {}
for i = 1, #all, 2 do
  local age = now - tonumber(string.match(all[i + 1], '^%d+') or 0)
  if age > 3600000000 then
    redis.call('HDEL', KEYS[3], all[i])
  else
    members[#members + 1] = {all[i], math.floor(age / 1000), string.match(all[i + 1], ' (.*)$') or ''}
  end
end
local flags = {}
if not follows then flags = redis.call('HGETALL', KEYS[2]) end
return {follows and 1 or 0, entries, flags, members, newest}
