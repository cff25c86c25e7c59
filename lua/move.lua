-- Move: opens, pauses, resumes or closes a sale.
--
-- Command     'M', sale, step ('open', 'pause', 'resume', 'close'), actor
-- Outcome     's', report, definition, false
-- Refusals    unknown-sale, invalid-transition (state)
-- Events      'M', sale, step, window before (opens_at, closes_at, paused), window after, actor
-- Invariants  a step to where the sale is already is no change; closing is final

-- What a step does from a state: nothing there, it makes no sense; '', it changes nothing.
local STEPS = {
  open = { scheduled = 'opens', open = '' },
  pause = { open = 'pauses', paused = '' },
  resume = { paused = 'resumes', open = '' },
  close = { scheduled = 'closes', open = 'closes', paused = 'closes', closed = '' },
}

decide.M = function(command)
  local id, step, actor = command[2], command[3], command[4]
  local sale = sale_of(id)
  if not sale then
    return refused('unknown-sale')
  end
  local state = state_of(sale)
  local effect = STEPS[step][state]
  if not effect then
    return refused('invalid-transition', state)
  end
  local before = { sale[OPENS_AT], sale[CLOSES_AT], sale[PAUSED] }
  if effect == 'opens' then
    sale[OPENS_AT] = now
  elseif effect == 'pauses' then
    sale[PAUSED] = true
  elseif effect == 'resumes' then
    sale[PAUSED] = false
  elseif effect == 'closes' then
    sale[CLOSES_AT] = now
  end
  if effect ~= '' then
    dirty_sales[id] = true
    touched[id] = true
    happened(pack({ 'M', id, step, before, { sale[OPENS_AT], sale[CLOSES_AT], sale[PAUSED] }, actor }))
  end
  return reported(id, false)
end
