-- Publishes the next version of a document over the one that it changes: under a lease that is still the writer's, or without one.
-- KEYS: lease, document, who is there in the window that is decided about, rows of it.
-- ARGV: the version that it changes, claim ('': no lease), token, body, number of the evidence, evidence ('': as it was), rows ('': none),
-- how long documents are kept, how long rows are (ms), and the version that it becomes.
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
if ARGV[2] ~= '' then
  local state, token, holder, untill = lease_of(KEYS[1])
  if state ~= 'h' or holder ~= ARGV[2] or token ~= tonumber(ARGV[3]) or untill <= now then return {'lease', 0} end
end
local version = tonumber(redis.call('HGET', KEYS[2], 'v') or '0')
if version ~= tonumber(ARGV[1]) then return {'version', version} end
redis.call('HSET', KEYS[2], 'v', ARGV[10], 'b', ARGV[4])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], 'n', ARGV[5], 'e', ARGV[6]) end
redis.call('PEXPIRE', KEYS[2], ARGV[8])
redis.call('DEL', KEYS[3])
if ARGV[7] ~= '' then redis.call('SET', KEYS[4], ARGV[7], 'PX', ARGV[9]) end
return {'done', tonumber(ARGV[10])}
