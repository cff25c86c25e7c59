-- One reservation of one line, with the semantics of Floodgate's: what a good team would write today.
--
-- KEYS    1 sale, 2 stock by item, 3 units by user, 4 records by id, 5 deadlines, 6 stream
-- ARGV    1 reservation id, 2 user, 3 item, 4 quantity, 5 sale id
-- Returns 'held' or 'replayed' with the record as JSON; else the code of the refusal
--
-- All keys share a hash tag. Everything is checked before anything is written; XADD is the first write.

local id, user, item, quantity = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local known = redis.call('HGET', KEYS[4], id)
if known then
  local record = cjson.decode(known)
  if record.user_id ~= user or record.lines[1].item_id ~= item or record.lines[1].quantity ~= quantity then
    return { 'idempotency-key-reused' }
  end
  return { 'replayed', known }
end

local sale = redis.call('HMGET', KEYS[1], 'opens_at', 'closes_at', 'paused', 'limit', 'hold_ms', 'price')
if not sale[1] then
  return { 'unknown-sale' }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < tonumber(sale[1]) then
  return { 'sale-not-open' }
elseif now >= tonumber(sale[2]) then
  return { 'sale-closed' }
elseif sale[3] == '1' then
  return { 'sale-paused' }
end
local available = tonumber(redis.call('HGET', KEYS[2], item))
if not available then
  return { 'unknown-item' }
end
local limit = tonumber(sale[4])
if quantity < 1 or quantity > limit then
  return { 'invalid-quantity' }
end
local taken = tonumber(redis.call('HGET', KEYS[3], user) or '0')
if taken + quantity > limit then
  return { 'limit-reached' }
end
if available < quantity then
  return { 'sold-out' }
end

local expires_at = now + tonumber(sale[5])
local price = tonumber(sale[6])
local record = string.format(
  '{"reservation_id":"%s","sale_id":"%s","user_id":"%s","status":"held","lines":[{"item_id":"%s","quantity":%d,'
    .. '"unit_price":%d,"currency":"EUR"}],"total":%d,"currency":"EUR","held_at_ms":%.0f,"expires_at_ms":%.0f}',
  id, ARGV[5], user, item, quantity, price, price * quantity, now, expires_at)
redis.call('XADD', KEYS[6], '*', 'held', record)
redis.call('HINCRBY', KEYS[2], item, -quantity)
redis.call('HINCRBY', KEYS[3], user, quantity)
redis.call('HSET', KEYS[4], id, record)
redis.call('ZADD', KEYS[5], expires_at, id)
return { 'held', record }
