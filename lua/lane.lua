-- The lane: what every operation reads and writes of one lane, and how it is written.
--
-- Purpose     Gives the operations the state of the lane as tables, keeps what they change, and writes all of
--             it at the end. Redis does not roll a script back, so nothing is written before everything has
--             been decided, and the first write (XADD) is the only one that can be refused.
-- KEYS        1 meta  2 definitions  3 sales  4 stock  5 accounts  6 records  7 due  8 restocks  9 touched
--             10 outbox: all with the hash tag of one lane.
-- Invariants  available + held + confirmed = stock, each at least 0, checked at every change;
--             ids of the outbox are epoch-seq, one seq for each event, without gaps;
--             the lane's clock never steps back.

local call, pack, unpacked = redis.call, cmsgpack.pack, cmsgpack.unpack
local META, DEFINITIONS, SALES, STOCK, ACCOUNTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RECORDS, DUE, RESTOCKS, TOUCHED, OUTBOX = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]

-- Bounds that the gateway knows by the same names.
local LATE_PAYMENTS_MAX, QUANTITY_MAX, STOCK_MAX = 8, 1000000, 1000000000
local SALES_MAX, SWEEP_MAX = 10000, 512

-- A reservation's record, by position.
local SALE, USER, LINES, CURRENCY, STATUS, VERSION = 1, 2, 3, 4, 5, 6
local HELD_AT, EXPIRES_AT, PAYMENT, LATE = 7, 8, 9, 10
-- Its status.
local HELD, CONFIRMED, CANCELLED, EXPIRED = 'h', 'c', 'x', 'e'
-- A sale, by position. An instant of -1 is none, a limit of -1 too. Items are id, price, limit, and again.
local CREATED_AT, OPENS_AT, CLOSES_AT, PAUSED, HOLD_SECONDS, LIMIT, S_CURRENCY, ITEMS = 1, 2, 3, 4, 5, 6, 7, 8
-- An item's counters, by position.
local IN_STOCK, AVAILABLE, C_HELD, C_CONFIRMED, CANCELLED_TOTAL, EXPIRED_TOTAL = 1, 2, 3, 4, 5, 6

local epoch, seq, now
local decide = {}

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

-- What was read, by its key. `false` stands for nothing there.
local sales, indexes, stocks, accounts, records, restocks = {}, {}, {}, {}, {}, {}
-- What is to be written.
local events, dirty_sales, dirty_stocks, dirty_accounts, dirty_records = {}, {}, {}, {}, {}
local new_definitions, new_restocks, new_due, gone_due, touched = {}, {}, {}, {}, {}
local written = {}

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
  return one(RECORDS, records, id)
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

-- Units of one item, or of all, that a user holds or has bought.
local function taken(sale, user, item)
  local account = one(ACCOUNTS, accounts, sale .. '/' .. user)
  local units = 0
  for at = 1, account and #account or 0, 2 do
    if not item or account[at] == item then
      units = units + account[at + 1]
    end
  end
  return units
end

local function book(sale, user, item, delta)
  local field = sale .. '/' .. user
  local account = one(ACCOUNTS, accounts, field) or {}
  local left = {}
  local found = false
  for at = 1, #account, 2 do
    local units = account[at + 1]
    if account[at] == item then
      found = true
      units = units + delta
    end
    if units < 0 then
      error('no such units of the user')
    end
    if units > 0 then
      left[#left + 1] = account[at]
      left[#left + 1] = units
    end
  end
  if not found then
    if delta < 0 then
      error('no such units of the user')
    end
    left[#left + 1] = item
    left[#left + 1] = delta
  end
  accounts[field] = left
  dirty_accounts[field] = true
end

local function has_units(status)
  return status == HELD or status == CONFIRMED
end

-- Where the units of a reservation of each status are counted.
local PLACES = { [HELD] = C_HELD, [CONFIRMED] = C_CONFIRMED, [CANCELLED] = AVAILABLE, [EXPIRED] = AVAILABLE }

-- Moves units from one status to another, in the counters and in the user's account.
local function shift(sale, user, lines, from, to, restock)
  for at = 1, #lines, 3 do
    local item, units = index_of(sale, lines[at]), lines[at + 1]
    local field = sale .. '/' .. item
    local counters = stock_of(sale, item)
    local source = from and PLACES[from] or AVAILABLE
    counters[source] = counters[source] - units
    counters[PLACES[to]] = counters[PLACES[to]] + units
    if to == CANCELLED then
      counters[CANCELLED_TOTAL] = counters[CANCELLED_TOTAL] + units
      if not restock then
        counters[AVAILABLE] = counters[AVAILABLE] - units
        counters[IN_STOCK] = counters[IN_STOCK] - units
      end
    elseif to == EXPIRED then
      counters[EXPIRED_TOTAL] = counters[EXPIRED_TOTAL] + units
    end
    if counters[AVAILABLE] < 0 or counters[C_HELD] < 0 or counters[C_CONFIRMED] < 0
      or counters[AVAILABLE] + counters[C_HELD] + counters[C_CONFIRMED] ~= counters[IN_STOCK] then
      error('conservation of ' .. field)
    end
    dirty_stocks[field] = true
    local had, has = from and has_units(from), has_units(to)
    if has and not had then
      book(sale, user, item, units)
    elseif had and not has then
      book(sale, user, item, -units)
    end
  end
  touched[sale] = true
end

-- Messages are concatenated from parts that were packed before: an array's head is one byte.
local TRIPLE, FALSE, TRUE = '\147', '\194', '\195'

local function happened(event)
  seq = seq + 1
  events[#events + 1] = event
end

-- Whose units move, for whoever digests the event: id, sale, user, lines, version.
local function return_of(id, record)
  return { id, record[SALE], record[USER], record[LINES], record[VERSION] }
end

-- Moves a reservation, and its units with it.
local function transit(id, record, to, restock)
  shift(record[SALE], record[USER], record[LINES], record[STATUS], to, restock)
  if record[STATUS] == HELD then
    gone_due[#gone_due + 1] = id
  end
  record[STATUS] = to
  record[VERSION] = record[VERSION] + 1
  dirty_records[id] = true
  written[id] = nil
end

local function expire(id, record)
  transit(id, record, EXPIRED, true)
  happened(pack({ 'E', return_of(id, record) }))
end

-- A hold whose time is up has run out, whether or not the sweep has been there.
local function expire_if_due(id)
  local record = record_of(id)
  if record and record[STATUS] == HELD and record[EXPIRES_AT] <= now then
    expire(id, record)
  end
end

local function refused(code, ...)
  return pack({ 'n', code, ... })
end

local function with_record(kind, record, flag)
  return TRIPLE .. pack(kind) .. pack(record) .. (flag and TRUE or FALSE)
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

-- What the user would then hold or have bought stays within the limits of sale and items.
local function over_limit(id, sale, user, lines)
  if sale[LIMIT] >= 0 then
    local had, wanted = taken(id, user), 0
    for at = 1, #lines, 3 do
      wanted = wanted + lines[at + 1]
    end
    if had + wanted > sale[LIMIT] then
      return sale[LIMIT], had
    end
  end
  for at = 1, #lines, 3 do
    local item = index_of(id, lines[at])
    local limit = sale[ITEMS][item * 3]
    if limit >= 0 then
      local had = taken(id, user, item)
      if had + lines[at + 1] > limit then
        return limit, had
      end
    end
  end
end

-- The counters of the first item of which there are not enough.
local function short_of(id, lines)
  for at = 1, #lines, 3 do
    local counters = stock_of(id, index_of(id, lines[at]))
    if counters[AVAILABLE] < lines[at + 1] then
      return counters
    end
  end
end

-- A sale with its counters: id, created_at, opens_at, closes_at, paused, counters of all items in a row.
local function report_of(id)
  local sale = sale_of(id)
  local fields = {}
  for item = 1, #sale[ITEMS] / 3 do
    fields[item] = id .. '/' .. item
  end
  for from = 1, #fields, 1000 do
    read(STOCK, stocks, { unpack(fields, from, math.min(from + 999, #fields)) })
  end
  local counters = {}
  for _, field in ipairs(fields) do
    for _, number in ipairs(stocks[field]) do
      counters[#counters + 1] = number
    end
  end
  return { id, sale[CREATED_AT], sale[OPENS_AT], sale[CLOSES_AT], sale[PAUSED], counters }
end

local function reported(id, created)
  local definition = new_definitions[id] or call('HGET', DEFINITIONS, id)
  return pack({ 's', report_of(id), definition, created })
end

-- Appends what was packed to a hash, some hundred fields at a time: Lua's stack is bounded.
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
  for from = 1, #fields, 1000 do
    call('HSET', key, unpack(fields, from, math.min(from + 999, #fields)))
  end
  for from = 1, #gone, 1000 do
    call('HDEL', key, unpack(gone, from, math.min(from + 999, #gone)))
  end
end

local function write_scores(command, values)
  for from = 1, #values, 1000 do
    call(command, DUE, unpack(values, from, math.min(from + 999, #values)))
  end
end

-- Writes everything that was decided. The outbox first: where its id is not the next one, nothing happens.
local function commit()
  if #events == 0 then
    return
  end
  call('XADD', OUTBOX, whole(epoch) .. '-' .. whole(seq), 'n', #events, 't', whole(now), 'e', table.concat(events))
  call('HSET', META, 'seq', whole(seq), 'now', whole(now))
  for id in pairs(dirty_records) do
    written[id] = written[id] or pack(records[id])
  end
  write(RECORDS, dirty_records, written)
  write(STOCK, dirty_stocks, stocks)
  write(ACCOUNTS, dirty_accounts, accounts)
  write(SALES, dirty_sales, sales)
  write(DEFINITIONS, new_definitions, new_definitions)
  write(RESTOCKS, new_restocks, new_restocks)
  -- What was held and ended in the same batch is taken out after it was put in.
  write_scores('ZADD', new_due)
  write_scores('ZREM', gone_due)
  for sale in pairs(touched) do
    call('ZADD', TOUCHED, whole(seq), sale)
  end
end
