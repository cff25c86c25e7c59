-- Fence: keeps a lane from selling while one gateway brings it back to what is known.
--
-- KEYS        1 meta
-- ARGV        1 token of the gateway  2 milliseconds after which another may take over
-- Answer      1: the fence is the caller's; 0: it is another's
-- Invariants  at most one gateway writes to a fenced lane; one that died is followed

local fence = redis.call('HMGET', KEYS[1], 'fence', 'fence_at')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if fence[1] and fence[1] ~= ARGV[1] and now - tonumber(fence[2]) < tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'fence_at', string.format('%.0f', now))
return 1
