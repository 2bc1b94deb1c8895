-- What all scripts begin with that keep what a fleet shares, in one hash. Numbers are whole, below 2^53.
local K = KEYS[1]
local at = 0
local function arg()
  at = at + 1
  return ARGV[at]
end
local function number()
  return tonumber(arg())
end
local function text(n)
  return string.format('%.0f', n)
end
local function flag(set)
  return set and '1' or '0'
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Another run of the server may have lost data, whatever it has.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
