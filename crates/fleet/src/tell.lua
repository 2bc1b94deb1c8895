-- Tells a message; answers its number, and the nonce of the message before it. KEYS: stream, flags. ARGV: nonce, message, most messages kept, nonce for a new beginning, least number; then
-- flags and their values, an empty value takes one away.
local stream = KEYS[1]
local function text(n) return string.format('%.0f', n) end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local n, before
if last then
  n = tonumber(string.match(last[1], '^%d+')) + 1
  for i = 1, #last[2], 2 do if last[2][i] == 'n' then before = last[2][i + 1] end end
else
  local time = redis.call('TIME')
  local first = math.max(time[1] * 1000000 + time[2], tonumber(ARGV[5]) + 1)
  redis.call('XADD', stream, text(first) .. '-0', 'n', ARGV[4], 'g', '1')
  n, before = first + 1, ARGV[4]
end
redis.call('XADD', stream, 'MAXLEN', ARGV[3], text(n) .. '-0', 'n', ARGV[1], 'm', ARGV[2])
for i = 6, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[2], ARGV[i]) else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
return {n, before or ''}
