-- Restore: one write of whoever has the fence.
--
-- KEYS        1 meta  2 what is written
-- ARGV        1 token  2 command (DEL, HSET, HDEL, ZADD, XDEL)  3 and on: its arguments
-- Answer      1: written; 0: the fence is not the caller's, and nothing was done
-- Invariants  nothing is written without the fence

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'fence_at', string.format('%.0f', now))
redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
return 1
