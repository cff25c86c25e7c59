-- Reopen: ends a recovery. From here on the lane sells.
--
-- KEYS        1 meta
-- ARGV        1 token  2 format  3 epoch  4 seq  5 now  6 history of the server  7 number of lanes
--             8 seq at which this epoch begins, or '' where it goes on
-- Answer      1: open; 0: the fence is not the caller's, and nothing was done
-- Invariants  the history is that of the server whose state was compared

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'format', ARGV[2], 'epoch', ARGV[3], 'seq', ARGV[4], 'now', ARGV[5], 'run', ARGV[6],
  'lanes', ARGV[7])
if ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'base:' .. ARGV[3], ARGV[8])
end
redis.call('HDEL', KEYS[1], 'fence', 'fence_at')
return 1
