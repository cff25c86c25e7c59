-- Reserve: takes units for a user, all lines or none.
--
-- Command     'R', id, sale, user, lines (item, quantity, and again)
-- Outcome     'r', record, replayed
-- Refusals    idempotency-key-reused, unknown-sale, sale-not-open (opens_at), sale-paused, sale-closed,
--             unknown-item (item), invalid-quantity (max), limit-reached (limit, taken), sold-out (held);
--             the first that applies, in this order
-- Events      'H', id, record
-- Invariants  the limit is checked before the stock, so that a repeat buyer cannot eat it; a replay before
--             everything, so that a retry gets its answer after the sale sold out or closed

local function replay(record, sale, user, lines)
  local same = record[SALE] == sale and record[USER] == user and #record[LINES] / 3 == #lines / 2
  for at = 1, same and #lines or 0, 2 do
    local known = (at + 1) / 2 * 3 - 2
    same = same and record[LINES][known] == lines[at] and record[LINES][known + 1] == lines[at + 1]
  end
  if not same then
    return refused('idempotency-key-reused')
  end
  replays[#replays + 1] = place
  return with_record('r', record, true)
end

decide.R = function(command)
  local id, sale_id, user, lines = command[2], command[3], command[4], command[5]
  local known = record_of(id)
  if known then
    return replay(known, sale_id, user, lines)
  end
  local sale = sale_of(sale_id)
  if not sale then
    return refused('unknown-sale')
  end
  local state = state_of(sale)
  if state == 'scheduled' then
    return refused('sale-not-open', sale[OPENS_AT])
  elseif state ~= 'open' then
    return refused('sale-' .. state)
  end

  -- An item that is not there, in whatever line, comes before an amount that is not given.
  local sale_max = sale[LIMIT] >= 0 and sale[LIMIT] or QUANTITY_MAX
  local priced, units, invalid, seen = {}, 0, nil, {}
  for at = 1, #lines, 2 do
    local item, quantity = lines[at], lines[at + 1]
    local index = index_of(sale_id, item)
    if not index then
      return refused('unknown-item', item)
    end
    local limit = sale[ITEMS][index * 3]
    local max = math.min(limit >= 0 and limit or QUANTITY_MAX, sale_max)
    if quantity == 0 or quantity > max or seen[index] then
      invalid = invalid or max
    end
    seen[index] = true
    units = units + quantity
    priced[#priced + 1] = item
    priced[#priced + 1] = quantity
    priced[#priced + 1] = sale[ITEMS][index * 3 - 1]
  end
  if invalid then
    return refused('invalid-quantity', invalid)
  end
  if #priced == 0 or units > sale_max then
    return refused('invalid-quantity', sale_max)
  end
  local limit, had = over_limit(sale_id, sale, user, priced)
  if limit then
    return refused('limit-reached', limit, had)
  end
  local short = short_of(sale_id, priced)
  if short then
    return refused('sold-out', short[C_HELD] > 0)
  end

  local expires_at = now + sale[HOLD_SECONDS] * 1000
  local record = { sale_id, user, priced, sale[S_CURRENCY], HELD, 1, now, expires_at, '', {} }
  shift(sale_id, user, priced, nil, HELD, true)
  records[id] = record
  dirty_records[id] = true
  held_until(whole(expires_at), id)
  -- One encoding serves the record, the event and the answer.
  local encoded = pack(record)
  written[id] = encoded
  happened(TRIPLE .. pack('H') .. pack(id) .. encoded)
  return TRIPLE .. pack('r') .. encoded .. FALSE
end
