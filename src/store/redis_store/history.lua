-- KEYS[1]: a register. ARGV: for how many milliseconds a hello is to be remembered, and the hello, or none.
-- Answers 1: first, 0: seen before, 2: first as far as is known. Without a hello 1: nothing can have been lost in that
-- time, 2: something may have been.
--
-- All is in one sorted set: whatever loses a part of it, an eviction or a flush, loses the whole. Hellos are in it by
-- when they end; below zero is since when the set has been kept by this server in this role, under the name of its
-- replication history, which is another after each start of Redis and each promotion of a replica.
local replication = redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
    return redis.error_reply('READONLY a replica knows of no hello in time')
end
local history = string.match(replication, 'master_replid:(%x+)')
if not history then
    return redis.error_reply('ERR this Redis does not tell its replication history')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lives = tonumber(ARGV[1])
local since = redis.call('ZSCORE', KEYS[1], history)
-- Not from the future either: the clock may have been ahead.
if not since or -since > now then
    since = -now
    local began = redis.pcall('ZADD', KEYS[1], since, history)
    if type(began) == 'table' then
        return began
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. since, 0)
end
local is_new = 1
if ARGV[2] then
    -- Before anything is deleted: after a write that is allowed in any case Redis no longer says that it is full.
    is_new = redis.pcall('ZADD', KEYS[1], 'NX', now + lives, ARGV[2])
    -- More goes than comes; all at once could be a million. Also if it is full: this is what makes room.
    local ended = redis.call('ZRANGEBYSCORE', KEYS[1], 1, now, 'LIMIT', 0, 100)
    if #ended > 0 then
        redis.call('ZREM', KEYS[1], unpack(ended))
    end
end
-- Longer than sessions, which are to be evicted first.
redis.call('PEXPIRE', KEYS[1], 691200000)
if type(is_new) == 'table' then
    return is_new
end
if is_new == 0 then
    return 0
end
if now + since < lives then
    return 2
end
return 1
