-- Expire: returns the units of holds that ran out.
--
-- Command     'E'
-- Outcome     'e', how many, whether more are due
-- Refusals    none
-- Events      'E', return, for each
-- Invariants  by the lane's clock; once for each hold, however many gateways sweep; at most SWEEP_MAX at once

local function sweep()
  local ids = call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, SWEEP_MAX + #gone_due + 1)
  if #ids == 0 then
    return 0, false
  end
  read(RECORDS, records, ids)
  local expired = 0
  for _, id in ipairs(ids) do
    local record = record_of(id)
    if record[STATUS] == HELD then
      if expired == SWEEP_MAX then
        return expired, true
      end
      expire(id, record)
      expired = expired + 1
    end
  end
  return expired, false
end

decide.E = function()
  local expired, more = sweep()
  return pack({ 'e', expired, more })
end
