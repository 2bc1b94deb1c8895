-- Says that a member is there, and answers its seat and the version of each document.
-- KEYS: seats, then for each document: it, and twice who is there in a window (the same key twice where there is one).
-- ARGV: member, its seat (0: none yet), how long documents are kept, then for each document how long its windows are kept, 0: it is there in none. Times in ms.
local member, seat, kept = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if seat == 0 then seat = last + 1 end
redis.call('SET', KEYS[1], string.format('%.0f', math.max(seat, last)), 'PX', kept)
local out = {seat}
for i = 2, #KEYS, 3 do
  local lasts = ARGV[3 + (i + 1) / 3]
  redis.call('PEXPIRE', KEYS[i], kept)
  if lasts ~= '0' then
    for w = i + 1, i + 2 do
      redis.call('HSETNX', KEYS[w], member, '')
      redis.call('PEXPIRE', KEYS[w], lasts)
    end
  end
  out[#out + 1] = redis.call('HGET', KEYS[i], 'v') or '0'
end
return out
