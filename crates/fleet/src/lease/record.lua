-- What a lease's record says: its letter, token, claim and until when. No letter where there is none.
local function lease_of(key)
  local state, token, holder, untill = string.match(redis.call('GET', key) or '', '^(%l) (%d+) (%x+) (%d+)$')
  return state, tonumber(token) or 0, holder, tonumber(untill) or 0
end
