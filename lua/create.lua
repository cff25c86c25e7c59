-- Create: makes a sale known.
--
-- Command     'N', sale, definition (JSON), opens_at, closes_at, hold_seconds, limit, currency,
--             items (id, price, limit, and again), stocks, actor
-- Outcome     's', report, definition, created
-- Refusals    sale-differs, too-many-sales
-- Events      'N', definition, actor
-- Invariants  creating the same sale again is no change; a definition never changes

decide.N = function(command)
  local id, definition = command[2], command[3]
  local known = new_definitions[id] or call('HGET', DEFINITIONS, id)
  if known then
    if known ~= definition then
      return refused('sale-differs')
    end
    return reported(id, false)
  end
  local created = 0
  for _ in pairs(new_definitions) do
    created = created + 1
  end
  if call('HLEN', DEFINITIONS) + created >= SALES_MAX then
    return refused('too-many-sales')
  end
  sales[id] = { now, command[4], command[5], false, command[6], command[7], command[8], command[9] }
  dirty_sales[id] = true
  new_definitions[id] = definition
  for item, stock in ipairs(command[10]) do
    local field = id .. '/' .. item
    stocks[field] = { stock, stock, 0, 0, 0, 0 }
    dirty_stocks[field] = true
  end
  touched[id] = true
  happened(pack({ 'N', definition, command[11] }))
  return reported(id, true)
end
