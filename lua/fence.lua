-- Fence: keeps a lane from selling while one gateway brings it back to what is known.
--
-- KEYS        1 meta
-- ARGV        1 token of this try  2 name of the gateway, with which its tokens begin
--             3 milliseconds after which another gateway may take over
-- Answer      1: the fence is the caller's; 0: it is another's
-- Invariants  at most one try writes to a fenced lane; one that died is followed

local fence = redis.call('HMGET', KEYS[1], 'fence', 'fence_at')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local own = fence[1] and string.sub(fence[1], 1, #ARGV[2] + 1) == ARGV[2] .. '-'
if fence[1] and not own and now - tonumber(fence[2]) < tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'fence_at', string.format('%.0f', now))
return 1
