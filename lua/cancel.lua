-- Cancel: gives the units of a reservation back, for its owner or, after a refund, for an operator.
--
-- Command     'X', id, owner ('' for an operator), restock, actor
-- Outcome     'x', record
-- Refusals    unknown-reservation (somebody else's, too), reservation-confirmed, reservation-expired
-- Events      'X', return, restock, actor ('' for the owner); 'E' where the hold has run out unnoticed
-- Invariants  a stranger changes nothing, not even a hold that has run out; an owner cancels only what is held

decide.X = function(command)
  local id, owner, restock, actor = command[2], command[3], command[4], command[5]
  local record = record_of(id)
  if not record or (owner ~= '' and record[USER] ~= owner) then
    return refused('unknown-reservation')
  end
  expire_if_due(id)
  local status = record[STATUS]
  if status == CANCELLED then
    return with_record('x', record, false)
  elseif status == EXPIRED then
    return refused('reservation-expired')
  elseif status == CONFIRMED and owner ~= '' then
    return refused('reservation-confirmed')
  end
  transit(id, record, CANCELLED, restock)
  happened(pack({ 'X', return_of(id, record), restock, actor }))
  return with_record('x', record, false)
end
