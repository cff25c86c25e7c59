-- Restock: adds units to an item, or takes some out.
--
-- Command     'S', sale, item, delta, key, reason, actor
-- Outcome     's', report, definition, false
-- Refusals    unknown-sale, unknown-item (item), idempotency-key-reused, stock-taken (available)
-- Events      'S', sale, item, delta, stock before, key, reason, actor
-- Invariants  once per key; never below what is taken; never beyond STOCK_MAX

decide.S = function(command)
  local id, item, delta, key = command[2], command[3], command[4], command[5]
  local sale = sale_of(id)
  if not sale then
    return refused('unknown-sale')
  end
  local index = index_of(id, item)
  if not index then
    return refused('unknown-item', item)
  end
  local field = id .. '/' .. key
  local known = one(RESTOCKS, restocks, field)
  if known then
    if known[1] ~= index or known[2] ~= delta then
      return refused('idempotency-key-reused')
    end
    return reported(id, false)
  end
  local counters = stock_of(id, index)
  local before = counters[IN_STOCK]
  if counters[AVAILABLE] + delta < 0 or before + delta > STOCK_MAX then
    return refused('stock-taken', counters[AVAILABLE])
  end
  if delta ~= 0 then
    counters[IN_STOCK] = before + delta
    counters[AVAILABLE] = counters[AVAILABLE] + delta
    dirty_stocks[id .. '/' .. index] = true
    restocks[field] = { index, delta }
    new_restocks[field] = restocks[field]
    touched[id] = true
    happened(pack({ 'S', id, item, delta, before, key, command[6], command[7] }))
  end
  return reported(id, false)
end
