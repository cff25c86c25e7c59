-- Plain: a reservation as nearly all are, decided without making the operations.
--
-- Command     id, user, and the number of a wish (sale, item, quantity): one line. As `reserve` decides it where
--             the reservation is new, the sale open, the quantity one that can be had, and where the user has
--             nothing of the sale yet; what else it may be is left to `reserve`.
-- Outcome     the number of a shape, which is a record without its user: the caller has the rest
-- Refusals    sold-out (held)
-- Events      'G', shape, ids, users: one for all reservations of a shape that nothing else came between
-- Invariants  as `reserve`; what is the same for all of one wish is packed once a call

-- The wishes of a call, and what a reservation of each is made of, if it can be plain.
local wishes, shapes = {}, {}
local begins = {}
-- Shapes that were granted, in the order of their numbers, packed.
local granted = {}

local function shape_of(wish)
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
  -- A record is its ten fields, packed: the user stands between these two.
  local head = pack(id)
  local tail = lines .. pack(sale[S_CURRENCY]) .. pack('h') .. pack(1) .. pack(now) .. pack(expires_at)
    .. pack('') .. pack({})
  return {
    sale = id,
    field = id .. '/' .. index,
    counters = stock_of(id, index),
    units = quantity,
    account = { index, quantity },
    packed_account = pack({ index, quantity }),
    head = '\154' .. head,
    tail = tail,
    packed = '\153' .. head .. tail,
    due = whole(expires_at),
    ids = {},
    users = {},
  }
end

-- The outcome, or nothing where it is not plain. `known` and `had` are what Redis has of id and account.
local function reserve_plain(id, user, wish, account, known, had)
  local shape = shapes[wish]
  if shape == nil then
    shape = shape_of(wish)
    shapes[wish] = shape
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
  if not shape.outcome then
    granted[#granted + 1] = shape.packed
    shape.outcome = pack(#granted)
    dirty_stocks[shape.field] = true
    touched[shape.sale] = true
  end
  local length = #user
  local begin = begins[length]
  if not begin then
    -- What a string of so many bytes begins with.
    begin = pack(user):sub(1, -1 - length)
    begins[length] = begin
  end
  local record = shape.head .. begin .. user .. shape.tail
  records[id], accounts[account] = record, shape.account
  local at = #plain_records
  plain_records[at + 1], plain_records[at + 2] = id, record
  plain_accounts[at + 1], plain_accounts[at + 2] = account, shape.packed_account
  local ids = shape.ids
  at = #ids + 1
  if at == 1 then
    untold[#untold + 1] = shape
  end
  ids[at], shape.users[at] = id, user
  held_until(shape.due, id)
  seq = seq + 1
  return shape.outcome
end
