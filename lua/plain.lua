-- Plain: a reservation as nearly all are, decided without making the operations.
--
-- Command     id, user, wish (sale, item, quantity, packed): one line. As `reserve` decides it where the
--             reservation is new, the sale open, the quantity one that can be had, and where the user has
--             nothing of the sale yet; what else it may be is left to `reserve`.
-- Outcome     'r', record, false
-- Refusals    sold-out (held)
-- Events      'H', id, record
-- Invariants  as `reserve`; what is the same for all of one wish is packed once a call

-- By wish: its fields, and what a reservation of it is made of, if it can be plain.
local wishes, shapes = {}, {}

local function wish_of(packed)
  local wish = wishes[packed]
  if not wish then
    wish = unpacked(packed)
    wish.account = wish[1] .. '/'
    wishes[packed] = wish
  end
  return wish
end

local function shape_of(packed)
  local wish = wish_of(packed)
  local id, item, quantity = wish[1], wish[2], wish[3]
  local sale = sale_of(id)
  local index = sale and state_of(sale) == 'open' and index_of(id, item)
  if not index then
    return false
  end
  local limit, sale_limit = sale[ITEMS][index * 3], sale[LIMIT]
  local max = math.min(limit >= 0 and limit or QUANTITY_MAX, sale_limit >= 0 and sale_limit or QUANTITY_MAX)
  if quantity == 0 or quantity > max then
    return false
  end
  local expires_at = now + sale[HOLD_SECONDS] * 1000
  local lines = pack({ item, quantity, sale[ITEMS][index * 3 - 1] })
  return {
    sale = id,
    field = id .. '/' .. index,
    counters = stock_of(id, index),
    units = quantity,
    account = { index, quantity },
    packed_account = pack({ index, quantity }),
    -- A record is its ten fields, packed: the user stands between these two.
    head = '\154' .. pack(id),
    tail = lines .. pack(sale[S_CURRENCY]) .. pack('h') .. pack(1) .. pack(now) .. pack(expires_at)
      .. pack('') .. pack({}),
    due = whole(expires_at),
  }
end

local HELD_EVENT, OUTCOME = TRIPLE .. pack('H') .. '\176', TRIPLE .. pack('r')

-- The outcome, or nothing where it is not plain. `known` and `had` are what Redis has of id and account.
local function reserve_plain(id, user, packed, account, known, had)
  local shape = shapes[packed]
  if shape == nil then
    shape = shape_of(packed)
    shapes[packed] = shape
  end
  if not shape or known or had or records[id] ~= nil or accounts[account] ~= nil then
    return nil
  end
  local counters, units = shape.counters, shape.units
  local available = counters[AVAILABLE]
  if available < units then
    return refused('sold-out', counters[C_HELD] > 0)
  end
  counters[AVAILABLE] = available - units
  counters[C_HELD] = counters[C_HELD] + units
  dirty_stocks[shape.field] = true
  touched[shape.sale] = true
  local record = shape.head .. pack(user) .. shape.tail
  records[id], accounts[account] = record, shape.account
  local at = #plain_records
  plain_records[at + 1], plain_records[at + 2] = id, record
  plain_accounts[at + 1], plain_accounts[at + 2] = account, shape.packed_account
  at = #new_due
  new_due[at + 1], new_due[at + 2] = shape.due, id
  at = #events
  -- An id is a string of 16 bytes.
  events[at + 1], events[at + 2], events[at + 3] = HELD_EVENT, id, record
  seq = seq + 1
  return OUTCOME .. record .. FALSE
end
