-- One reservation: body in, one EVALSHA of ../reserve.lua, answer out.
local cjson = require 'cjson.safe'
local redis = require 'nginx.redis'

local M = {}
local script, sha

local REFUSALS = {
  ['unknown-sale'] = 404, ['sale-not-open'] = 403, ['sale-closed'] = 410, ['sale-paused'] = 409,
  ['unknown-item'] = 422, ['invalid-quantity'] = 422, ['idempotency-key-reused'] = 422,
  ['limit-reached'] = 409, ['sold-out'] = 409,
}

function M.load(path)
  local file = assert(io.open(path))
  script = file:read('*a')
  file:close()
end

local function uuid(hex)
  return hex:sub(1, 8) .. '-' .. hex:sub(9, 12) .. '-' .. hex:sub(13, 16) .. '-' .. hex:sub(17, 20) .. '-' .. hex:sub(21, 32)
end

-- The same key of the same user is the same reservation.
local function id_of(user, sale, key)
  if key then
    return uuid(ngx.md5(user .. '\0' .. sale .. '\0' .. key))
  end
  return uuid(ngx.md5(user .. ngx.var.request_id))
end

local function problem(status, code)
  ngx.status = status
  ngx.header['Content-Type'] = 'application/problem+json'
  local body = string.format('{"type":"https://floodgate.dev/problems/%s","title":"%s","status":%d,"code":"%s"}',
    code, code, status, code)
  ngx.header['Content-Length'] = #body
  ngx.print(body)
end

local function time(ms)
  return os.date('!%Y-%m-%dT%H:%M:%S', math.floor(ms / 1000)) .. string.format('.%03dZ', ms % 1000)
end

local function decide(connection, sale, id, user, body)
  local tag = '{b:' .. sale .. '}:'
  local function call(what)
    return connection[what == script and 'eval' or 'evalsha'](connection, what, 6, tag .. 'sale', tag .. 'stock',
      tag .. 'users', tag .. 'records', tag .. 'due', tag .. 'outbox', id, user, body.item_id, body.quantity, sale)
  end
  if not sha then
    sha = connection:script('LOAD', script)
  end
  local answer, err = call(sha)
  if not answer and err and err:find('NOSCRIPT', 1, true) then
    answer, err = call(script)
  end
  return answer, err
end

function M.handle(sale)
  if ngx.req.get_method() ~= 'POST' then
    return problem(405, 'method-not-allowed')
  end
  ngx.req.read_body()
  local headers = ngx.req.get_headers()
  local user = headers['x-user-id']
  if not user or #user > 128 then
    return problem(401, 'identity-required')
  end
  local body = cjson.decode(ngx.req.get_body_data() or '')
  if type(body) ~= 'table' or type(body.item_id) ~= 'string' or type(body.quantity) ~= 'number' then
    return problem(400, 'malformed-request')
  end
  local connection = redis:new()
  connection:set_timeout(1000)
  local connected = connection:connect('127.0.0.1', REDIS_PORT)
  if not connected then
    return problem(503, 'ledger-unavailable')
  end
  local id = id_of(user, sale, headers['idempotency-key'])
  local answer = decide(connection, sale, id, user, body)
  if not answer then
    connection:close()
    return problem(503, 'outcome-unknown')
  end
  connection:set_keepalive(60000, 512)
  local outcome, text = answer[1], answer[2]
  if not text then
    return problem(REFUSALS[outcome] or 500, outcome)
  end
  local record = cjson.decode(text)
  record.held_at, record.expires_at = time(record.held_at_ms), time(record.expires_at_ms)
  record.held_at_ms, record.expires_at_ms, record.user_id = nil, nil, nil
  record.durability = DURABILITY
  local encoded = cjson.encode(record)
  ngx.status = 201
  ngx.header['Content-Type'] = 'application/json'
  ngx.header['Cache-Control'] = 'no-store'
  ngx.header['X-Content-Type-Options'] = 'nosniff'
  ngx.header['X-Request-Id'] = ngx.var.request_id
  ngx.header['Location'] = '/v1/reservations/' .. id
  ngx.header['Content-Length'] = #encoded
  if outcome == 'replayed' then
    ngx.header['Idempotent-Replayed'] = 'true'
  end
  ngx.print(encoded)
end

return M
