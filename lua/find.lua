-- Find: what became of a reservation.
--
-- Command     'F', id, owner ('' for an operator)
-- Outcome     'f', record
-- Refusals    unknown-reservation (somebody else's, too)
-- Events      none
-- Invariants  changes nothing

decide.F = function(command)
  local id, owner = command[2], command[3]
  local record = record_of(id)
  if not record or (owner ~= '' and record[USER] ~= owner) then
    return refused('unknown-reservation')
  end
  return with_record('f', record, false)
end
