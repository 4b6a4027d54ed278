-- One change of one slot: everything that it was decided by is looked at again, then all of it is written, or none.
-- ARGV: echo, the asker's time in ms, the skew that is permitted in ms, then operations. Guards come first.
-- Gives: echo, the server's time in ms, "done" or what stood against it, and what the operations give.
local echo, asked, skew = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function no(why, at) return {echo, now, why, at} end
if skew > 0 and math.abs(now - asked) > skew then return no('skew', 0) end
local i, n = 4, #ARGV
local given = {}
while i <= n do
  local op, key, a, b = ARGV[i], KEYS[tonumber(ARGV[i + 1])], ARGV[i + 2], ARGV[i + 3]
  if op == 'life' then           -- the slot's marker is this
    if redis.call('HGET', key, 'life') ~= a then return no('life', i) end
    i = i + 3
  elseif op == 'h=' then         -- fields are these: how many words, then a field and its value, and so on
    local last, fields = i + 2 + tonumber(a), {}
    for j = i + 3, last, 2 do fields[#fields + 1] = ARGV[j] end
    for place, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
      if value ~= ARGV[i + 2 + 2 * place] then return no('moved', i) end
    end
    i = last + 1
  elseif op == 'h^' then         -- a field begins like this
    local v = redis.call('HGET', key, a)
    if not v or string.sub(v, 1, #b) ~= b then return no('moved', i) end
    i = i + 4
  elseif op == 'h!' then         -- a field is absent
    if redis.call('HEXISTS', key, a) == 1 then return no('moved', i) end
    i = i + 3
  elseif op == 's=' then         -- a string is this
    if redis.call('GET', key) ~= a then return no('moved', i) end
    i = i + 3
  elseif op == 's!' then         -- a key is absent
    if redis.call('EXISTS', key) == 1 then return no('moved', i) end
    i = i + 2
  elseif op == 'h<' then         -- a field is absent or a number up to this
    local v = redis.call('HGET', key, a)
    if v and tonumber(v) > tonumber(b) then return no('moved', i) end
    i = i + 4
  elseif op == 'z!' then         -- a member is absent
    if redis.call('ZSCORE', key, a) then return no('moved', i) end
    i = i + 3
  elseif op == 'z?' then         -- a member is there
    if not redis.call('ZSCORE', key, a) then return no('moved', i) end
    i = i + 3
  elseif op == 'older' then      -- the slot's marker is absent, or of no later life than this one
    local v = redis.call('HGET', key, 'life')
    if v and struct.unpack('>I4', v, 17) > struct.unpack('>I4', a, 17) then return no('life', i) end
    i = i + 3
  elseif op == 'turn' then       -- nobody else has asked for the next turn
    local v = redis.call('GET', key)
    if v and v ~= a then return no('moved', i) end
    i = i + 3
  elseif op == 'claim' then
    redis.call('SET', key, a, 'NX', 'PX', b)
    i = i + 4
  elseif op == 'hset' then       -- how many words, then a field and its value, and so on
    local last = i + 2 + tonumber(a)
    redis.call('HSET', key, unpack(ARGV, i + 3, last))
    i = last + 1
  elseif op == 'hdel' then
    redis.call('HDEL', key, a)
    i = i + 3
  elseif op == 'hmax' then       -- a number that only rises
    local v = redis.call('HGET', key, a)
    if not v or tonumber(v) < tonumber(b) then redis.call('HSET', key, a, b) end
    i = i + 4
  elseif op == 'set' then
    redis.call('SET', key, a)
    i = i + 3
  elseif op == 'setat' then      -- until this instant, in ms
    redis.call('SET', key, a, 'PXAT', b)
    i = i + 4
  elseif op == 'del' then
    redis.call('DEL', key)
    i = i + 2
  elseif op == 'push' then       -- how many words, then they
    local last = i + 2 + tonumber(a)
    redis.call('RPUSH', key, unpack(ARGV, i + 3, last))
    i = last + 1
  elseif op == 'lset' then
    redis.pcall('LSET', key, a, b) -- gone is gone
    i = i + 4
  elseif op == 'zadd' then
    redis.call('ZADD', key, 0, a)
    i = i + 3
  elseif op == 'zput' then       -- with this score
    redis.call('ZADD', key, b, a)
    i = i + 4
  elseif op == 'count' then      -- a number in a field goes up or down; at zero the field goes
    if redis.call('HINCRBY', key, a, b) <= 0 then redis.call('HDEL', key, a) end
    i = i + 4
  elseif op == 'zrem' then
    redis.call('ZREM', key, a)
    i = i + 3
  elseif op == 'xadd' then       -- at this place of a stream, one field `e`
    redis.call('XADD', key, a, 'e', b)
    i = i + 4
  elseif op == 'xtrim' then      -- what lies before this place
    redis.call('XTRIM', key, 'MINID', a)
    i = i + 3
  elseif op == 'xdel' then
    redis.call('XDEL', key, a)
    i = i + 3
  elseif op == 'owe' then        -- KEYS: meta, then owed. Numbers what is owed, and gives the number.
    local number = redis.call('HINCRBY', key, 'owed', 1)
    redis.call('RPUSH', KEYS[tonumber(a)], struct.pack('>I8', number) .. b)
    given[#given + 1] = number
    i = i + 4
  elseif op == 'paid' then       -- what is owed up to this number has been done
    local upto = tonumber(a)
    local oldest = redis.call('LINDEX', key, 0)
    local many = oldest and upto - struct.unpack('>I8', oldest) + 1 or 0
    -- All of them at once, if their numbers have no gap.
    local newest = many > 1 and redis.call('LINDEX', key, many - 1)
    if newest and struct.unpack('>I8', newest) == upto then
      redis.call('LTRIM', key, many, -1)
      oldest = false
    end
    while oldest and struct.unpack('>I8', oldest) <= upto do
      redis.call('LPOP', key)
      oldest = redis.call('LINDEX', key, 0)
    end
    i = i + 3
  else
    return no('unknown operation', i)
  end
end
return {echo, now, 'done', given}
