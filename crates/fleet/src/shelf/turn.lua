-- Notes what a member says, with the server's time in milliseconds, and answers the version in front, its mark, and, where that is asked for, what all say.
-- Who was not heard of for an hour is taken out then, and before there would be more than 1,024.
-- KEYS: document, members. ARGV: member, what it says, '1' where all are asked for.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
local out = {}
if ARGV[3] ~= '' or redis.call('HLEN', KEYS[2]) > 1024 then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local at, says = string.match(all[i + 1], '^(%d+) (.*)$')
    local ago = now - (tonumber(at) or 0)
    if ago > 3600000 then
      redis.call('HDEL', KEYS[2], all[i])
    elseif ARGV[3] ~= '' then
      out[#out + 1] = all[i]
      out[#out + 1] = math.max(ago, 0)
      out[#out + 1] = says
    end
  end
end
return {redis.call('HGET', KEYS[1], 'v') or '0', redis.call('HGET', KEYS[1], 'k') or '', out}
