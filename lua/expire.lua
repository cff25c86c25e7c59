-- Expire: returns the units of holds that ran out.
--
-- Command     'E'
-- Outcome     'e', how many, whether more are due
-- Refusals    none
-- Events      'E', return, for each
-- Invariants  by the lane's clock; once for each hold, however many gateways sweep; at most SWEEP_MAX at once

-- Members of `due` that are read at once.
local SWEEP_MEMBERS = 64

local function sweep()
  local members = call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', #gone_due, SWEEP_MEMBERS + 1)
  local ids, more = {}, false
  for at, member in ipairs(members) do
    more = at > SWEEP_MEMBERS or #ids + #member / 16 > SWEEP_MAX
    if more then
      break
    end
    for from = 1, #member, 16 do
      ids[#ids + 1] = member:sub(from, from + 15)
    end
    gone_due[#gone_due + 1] = member
  end
  read(RECORDS, records, ids)
  local expired = 0
  for _, id in ipairs(ids) do
    local record = record_of(id)
    -- Most have been paid or cancelled since.
    if record[STATUS] == HELD then
      expire(id, record)
      expired = expired + 1
    end
  end
  return expired, more
end

decide.E = function()
  local expired, more = sweep()
  return pack({ 'e', expired, more })
end
