-- One look at one slot. ARGV: echo, then operations. Gives: echo, the server's time in ms, then one answer for each.
local t = redis.call('TIME')
local out = {ARGV[1], t[1] * 1000 + math.floor(t[2] / 1000)}
local i, n = 2, #ARGV
while i <= n do
  local op, key, a, b = ARGV[i], KEYS[tonumber(ARGV[i + 1])], ARGV[i + 2], ARGV[i + 3]
  local answer
  if op == 'hget' then answer = redis.call('HGET', key, a) i = i + 3
  elseif op == 'hall' then answer = redis.call('HGETALL', key) i = i + 2
  elseif op == 'hkeys' then answer = redis.call('HKEYS', key) i = i + 2
  elseif op == 'get' then answer = redis.call('GET', key) i = i + 2
  elseif op == 'exists' then answer = redis.call('EXISTS', key) i = i + 2
  elseif op == 'range' then answer = redis.call('LRANGE', key, a, b) i = i + 4
  elseif op == 'xrange' then answer = redis.call('XRANGE', key, a, '+', 'COUNT', b) i = i + 4
  elseif op == 'zlex' then answer = redis.call('ZRANGEBYLEX', key, a, '+', 'LIMIT', 0, b) i = i + 4
  elseif op == 'zscore' then answer = redis.call('ZSCORE', key, a) i = i + 3
  elseif op == 'zcard' then answer = redis.call('ZCARD', key) i = i + 2
  elseif op == 'zdue' then answer = redis.call('ZRANGEBYSCORE', key, '-inf', a, 'WITHSCORES', 'LIMIT', 0, b) i = i + 4
  elseif op == 'zlast' then answer = redis.call('ZRANGE', key, -1, -1) i = i + 2
  elseif op == 'family' then
    -- KEYS: families, then cuts. A family, and what cuts its subject off: sessions, then tokens.
    local row = redis.call('HGET', key, a)
    local cuts = KEYS[tonumber(b)]
    answer = {row, false, false}
    if row then
      local subject = string.sub(row, 9, 24)
      answer[2] = redis.call('HGET', cuts, subject .. '\0')
      answer[3] = redis.call('HGET', cuts, subject .. '\1')
    end
    i = i + 4
  elseif op == 'due' then
    -- Goes on in a hash of records from a cursor: those that must be looked at by an instant, which stands in bytes 5 to 8
    -- of each, in seconds, the highest byte first. Gives the next cursor, then their fields.
    local found = redis.call('HSCAN', key, a, 'COUNT', 256)
    answer = {found[1]}
    local by = tonumber(b)
    for n = 1, #found[2], 2 do
      local row = found[2][n + 1]
      if #row < 8 or struct.unpack('>I4', row, 5) <= by then answer[#answer + 1] = found[2][n] end
    end
    i = i + 4
  else
    return redis.error_reply('unknown operation ' .. op)
  end
  if answer == nil then answer = false end
  out[#out + 1] = answer
end
return out
