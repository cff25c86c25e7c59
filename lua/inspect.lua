-- Inspect: a sale with its counters.
--
-- Command     'I', sale
-- Outcome     's', report, definition, false
-- Refusals    unknown-sale
-- Events      none
-- Invariants  changes nothing

decide.I = function(command)
  if not sale_of(command[2]) then
    return refused('unknown-sale')
  end
  return reported(command[2], false)
end
