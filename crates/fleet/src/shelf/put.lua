-- Puts a version in front of the one that the writer knows, and takes away what is older than those that stay.
-- KEYS: document. ARGV: the number in front as the writer knows it, its own number, its mark, its body, how many stay.
local version = redis.call('HGET', KEYS[1], 'v') or '0'
-- The same once more, as a Cluster's client may send it twice.
if version == ARGV[2] and redis.call('HGET', KEYS[1], 'k') == ARGV[3] then return {'done', ARGV[2]} end
if version ~= ARGV[1] then return {'version', version} end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'k', ARGV[3], 'b:' .. ARGV[2], ARGV[4])
local numbers = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local number = string.match(field, '^b:(%d+)$')
  if number then numbers[#numbers + 1] = tonumber(number) end
end
table.sort(numbers)
for i = 1, #numbers - tonumber(ARGV[5]) do redis.call('HDEL', KEYS[1], 'b:' .. string.format('%.0f', numbers[i])) end
return {'done', ARGV[2]}
