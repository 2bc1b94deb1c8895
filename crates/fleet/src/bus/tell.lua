-- Tells a message; answers its number, the nonce of the message before it, and 1, or, where it has been told by somebody else, the newest number, nothing and 0.
-- KEYS: stream, flags, what was told of other sources. ARGV: nonce, message, most messages kept, nonce for a new beginning, least number, source ('': none),
-- up to where in it this tells, whether also if that is not further; then flags, when each was ordered, and their values, an empty value takes one away.
-- Places and times are texts of one length, that compare as what they say.
local stream = KEYS[1]
local function text(n) return string.format('%.0f', n) end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local source, place = ARGV[6], ARGV[7]
if last and source ~= '' and ARGV[8] ~= '1' then
  local told = redis.call('HGET', KEYS[3], source)
  if told and told >= place then return {tonumber(string.match(last[1], '^%d+')), '', 0} end
end
-- Numbers are times, so that one of a message that was lost is not given again: answers are marked with them.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local n, before
if last then
  n = math.max(tonumber(string.match(last[1], '^%d+')) + 1, now)
  for i = 1, #last[2], 2 do if last[2][i] == 'n' then before = last[2][i + 1] end end
else
  local first = math.max(now, tonumber(ARGV[5]) + 1)
  redis.call('XADD', stream, text(first) .. '-0', 'n', ARGV[4], 'g', '1')
  n, before = first + 1, ARGV[4]
end
redis.call('XADD', stream, 'MAXLEN', ARGV[3], text(n) .. '-0', 'n', ARGV[1], 'm', ARGV[2])
if source ~= '' then redis.call('HSET', KEYS[3], source, place) end
for i = 9, #ARGV, 3 do
  -- What is told once more, or late, is not put back over what was ordered after it.
  local name, at, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local since = redis.call('HGET', KEYS[2], '@' .. name)
  if not since or since < at then
    redis.call('HSET', KEYS[2], '@' .. name, at)
    if value == '' then redis.call('HDEL', KEYS[2], name) else redis.call('HSET', KEYS[2], name, value) end
  end
end
return {n, before or '', 1}
