-- A family moves on: the change that is made most often, written out. As commit.lua: everything that it was decided by is
-- looked at again, then all of it is written, or none.
-- KEYS: meta, families, cuts, owed. ARGV: echo, the asker's time in ms, the skew that is permitted in ms, the bucket's life,
-- the session, what its record begins with, the record as it is to be, the subject, its cut-offs of sessions and of tokens
-- as they were seen (empty: there is none), the instant stamped in ms, what is owed.
-- Gives: echo, the server's time in ms, "done" or what stood against it, and the number of what is owed.
local echo, asked, skew = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if skew > 0 and math.abs(now - asked) > skew then return {echo, now, 'skew'} end
local meta = redis.call('HMGET', KEYS[1], 'life', 'stamped', 'owed')
if meta[1] ~= ARGV[4] then return {echo, now, 'life'} end
local row = redis.call('HGET', KEYS[2], ARGV[5])
if not row or string.sub(row, 1, #ARGV[6]) ~= ARGV[6] then return {echo, now, 'moved'} end
local cuts = redis.call('HMGET', KEYS[3], ARGV[8] .. '\0', ARGV[8] .. '\1')
if (cuts[1] or '') ~= ARGV[9] or (cuts[2] or '') ~= ARGV[10] then return {echo, now, 'moved'} end
redis.call('HSET', KEYS[2], ARGV[5], ARGV[7])
local stamped = ARGV[11]
if meta[2] and tonumber(meta[2]) > tonumber(stamped) then stamped = meta[2] end
local number = (meta[3] or 0) + 1
redis.call('HSET', KEYS[1], 'stamped', stamped, 'owed', string.format('%d', number))
redis.call('RPUSH', KEYS[4], struct.pack('>I8', number) .. ARGV[12])
return {echo, now, 'done', {number}}
