-- The lane: what every call reads and writes of one lane, and how it is written.
--
-- Purpose     Gives the operations the state of the lane as tables, keeps what they change, and writes all of
--             it at the end. Redis does not roll a script back, so nothing is written before everything has
--             been decided, and the first write (XADD) is the only one that can be refused.
-- KEYS        1 meta  2 definitions  3 sales  4 stock  5 accounts  6 records  7 due  8 restocks  9 touched
--             10 outbox  11 rate  12 rate_before: all with the hash tag of one lane.
-- Invariants  available + held + confirmed = stock, each at least 0, checked before anything is written;
--             ids of the outbox are epoch-seq, one seq for each event, without gaps;
--             the lane's clock never steps back.

local call, pack, unpacked = redis.call, cmsgpack.pack, cmsgpack.unpack
local META, DEFINITIONS, SALES, STOCK, ACCOUNTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RECORDS, DUE, RESTOCKS, TOUCHED, OUTBOX = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]

-- Bounds that the gateway knows by the same names.
local QUANTITY_MAX, SWEEP_MAX, DUE_IDS_MAX = 1000000, 512, 64

-- A sale, by position. An instant of -1 is none, a limit of -1 too. Items are id, price, limit, and again.
local CREATED_AT, OPENS_AT, CLOSES_AT, PAUSED, HOLD_SECONDS, LIMIT, S_CURRENCY, ITEMS = 1, 2, 3, 4, 5, 6, 7, 8
-- An item's counters, by position.
local IN_STOCK, AVAILABLE, C_HELD, C_CONFIRMED, CANCELLED_TOTAL, EXPIRED_TOTAL = 1, 2, 3, 4, 5, 6
-- Messages are concatenated from parts that were packed before: an array's head is one byte.
local TRIPLE, FOURFOLD, FALSE, TRUE = '\147', '\148', '\194', '\195'

local epoch, seq, now

-- A whole number as text. The same instants come again and again, and spelling one is dear.
local spelled = {}
local function whole(number)
  local text = spelled[number]
  if not text then
    text = string.format('%.0f', number)
    spelled[number] = text
  end
  return text
end

-- What was read, by its key. `false` stands for nothing there. A record may still be packed.
local sales, indexes, stocks, accounts, records, restocks = {}, {}, {}, {}, {}, {}
-- What is to be written. `plain_` are fields and values in a row, which come before the others.
local events, dirty_sales, dirty_stocks, dirty_accounts, dirty_records = {}, {}, {}, {}, {}
local new_definitions, new_restocks, new_due, gone_due, touched = {}, {}, {}, {}, {}
-- Plain holds that no event tells of yet: shapes, in the order of their first one.
local untold = {}
local plain_records, plain_accounts = {}, {}
local written = {}
-- The caller's field of `meta` and what to keep there; the command that is decided, and those that were replays.
local this_call, place, replays = {}, 0, {}

-- Reads fields of a hash that have not been read yet, all in one call.
local function read(key, known, fields)
  local asked = {}
  for _, field in ipairs(fields) do
    if known[field] == nil then
      known[field] = false
      asked[#asked + 1] = field
    end
  end
  if #asked == 0 then
    return
  end
  for at, value in ipairs(call('HMGET', key, unpack(asked))) do
    known[asked[at]] = value and unpacked(value)
  end
end

local function one(key, known, field)
  if known[field] == nil then
    read(key, known, { field })
  end
  return known[field]
end

local function sale_of(id)
  return one(SALES, sales, id)
end

local function record_of(id)
  local record = one(RECORDS, records, id)
  if type(record) == 'string' then
    record = unpacked(record)
    records[id] = record
  end
  return record
end

local function stock_of(sale, item)
  return one(STOCK, stocks, sale .. '/' .. item)
end

-- The place of an item in its sale, from 1 on.
local function index_of(sale, id)
  local index = indexes[sale]
  if not index then
    index = {}
    local items = sale_of(sale)[ITEMS]
    for at = 1, #items, 3 do
      index[items[at]] = (at + 2) / 3
    end
    indexes[sale] = index
  end
  return index[id]
end

-- Where a window stands now.
local function state_of(sale)
  if sale[CLOSES_AT] >= 0 and now >= sale[CLOSES_AT] then
    return 'closed'
  end
  if sale[OPENS_AT] < 0 or now < sale[OPENS_AT] then
    return 'scheduled'
  end
  return sale[PAUSED] and 'paused' or 'open'
end

local function refused(code, ...)
  return pack({ 'n', code, ... })
end

-- A list of fields and values, some hundred at a time: Lua's stack is bounded.
local function write_list(command, key, values)
  for from = 1, #values, 1000 do
    call(command, key, unpack(values, from, math.min(from + 999, #values)))
  end
end

-- Fields of a hash that changed; those that came to be empty are removed.
local function write(key, dirty, known)
  local fields, gone = {}, {}
  for field in pairs(dirty) do
    local value = known[field]
    if type(value) == 'table' and #value == 0 then
      gone[#gone + 1] = field
    else
      fields[#fields + 1] = field
      fields[#fields + 1] = type(value) == 'table' and pack(value) or value
    end
  end
  write_list('HSET', key, fields)
  write_list('HDEL', key, gone)
end

local function check_conservation()
  for field in pairs(dirty_stocks) do
    local counters = stocks[field]
    local available, held, confirmed = counters[AVAILABLE], counters[C_HELD], counters[C_CONFIRMED]
    if available < 0 or held < 0 or confirmed < 0 or available + held + confirmed ~= counters[IN_STOCK] then
      error('conservation of ' .. field)
    end
  end
end

-- Tells of plain holds, in one event for all of a shape.
local function tell_plain()
  for at, shape in ipairs(untold) do
    events[#events + 1] = FOURFOLD .. pack('G') .. shape.packed .. pack(table.concat(shape.ids)) .. pack(shape.users)
    shape.ids, shape.users, untold[at] = {}, {}, nil
  end
end

-- Ids of holds by their end, many to a member. They stay until then, whatever becomes of them.
local function write_due()
  local members = {}
  for expires_at, ids in pairs(new_due) do
    for from = 1, #ids, DUE_IDS_MAX do
      members[#members + 1] = expires_at
      members[#members + 1] = table.concat(ids, '', from, math.min(from + DUE_IDS_MAX - 1, #ids))
    end
  end
  write_list('ZADD', DUE, members)
  write_list('ZREM', DUE, gone_due)
end

local function held_until(expires_at, id)
  local ids = new_due[expires_at]
  if not ids then
    ids = {}
    new_due[expires_at] = ids
  end
  ids[#ids + 1] = id
end

-- Writes everything that was decided since `before`. The outbox first: where its id is not the next one,
-- nothing happens.
local function commit(before)
  if seq == before then
    write_list('ZREM', DUE, gone_due)
    return
  end
  check_conservation()
  tell_plain()
  for id in pairs(dirty_records) do
    written[id] = written[id] or pack(records[id])
  end
  local told = table.concat(events)
  call('XADD', OUTBOX, whole(epoch) .. '-' .. whole(seq), 'n', seq - before, 't', whole(now), 'e', told)
  call('HSET', META, 'seq', whole(seq), 'now', whole(now), unpack(this_call))
  write_list('HSET', RECORDS, plain_records)
  write(RECORDS, dirty_records, written)
  write(STOCK, dirty_stocks, stocks)
  write_list('HSET', ACCOUNTS, plain_accounts)
  write(ACCOUNTS, dirty_accounts, accounts)
  write(SALES, dirty_sales, sales)
  write(DEFINITIONS, new_definitions, new_definitions)
  write(RESTOCKS, new_restocks, new_restocks)
  write_due()
  for sale in pairs(touched) do
    call('ZADD', TOUCHED, whole(seq), sale)
  end
end
