-- Change: what the operations have in common: accounts, limits, transitions, reports.
--
-- Purpose     From here to the last operation all is made only in a call that needs one of them: making
--             functions is most of what a small call costs, and most calls have plain reservations only.
-- Invariants  units move by `shift` alone, in the counters and in the user's account together.

-- Bounds that the gateway knows by the same names.
local LATE_PAYMENTS_MAX, STOCK_MAX, SALES_MAX = 8, 1000000000, 10000

-- A reservation's record, by position.
local SALE, USER, LINES, CURRENCY, STATUS, VERSION = 1, 2, 3, 4, 5, 6
local HELD_AT, EXPIRES_AT, PAYMENT, LATE = 7, 8, 9, 10
-- Its status.
local HELD, CONFIRMED, CANCELLED, EXPIRED = 'h', 'c', 'x', 'e'

local decide = {}

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

local function happened(event)
  tell_plain()
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

local function with_record(kind, record, flag)
  return TRIPLE .. pack(kind) .. pack(record) .. (flag and TRUE or FALSE)
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
