-- Confirm: a payment arrived.
--
-- Command     'C', id, payment
-- Outcome     'c', record, rebooked
-- Refusals    unknown-reservation, reservation-confirmed, reservation-cancelled, reservation-expired
-- Events      'C', id, user, version, payment / 'B', return, payment / 'P', id, sale, user, payment, lines,
--             currency (money that has to go back); 'E' where the hold has run out unnoticed
-- Invariants  in time, it confirms; late, it takes the units anew if there are any and the limits allow it;
--             otherwise a refund is noted, once per payment, and never more than LATE_PAYMENTS_MAX

local function is_late(record, payment)
  for _, late in ipairs(record[LATE]) do
    if late == payment then
      return true
    end
  end
  return #record[LATE] >= LATE_PAYMENTS_MAX
end

local function note_refund(id, record, payment)
  if record[PAYMENT] == payment or is_late(record, payment) then
    return
  end
  record[LATE][#record[LATE] + 1] = payment
  dirty_records[id] = true
  written[id] = nil
  touched[record[SALE]] = true
  happened(pack({ 'P', id, record[SALE], record[USER], payment, record[LINES], record[CURRENCY] }))
end

local function rebook(id, record, payment)
  local sale = sale_of(record[SALE])
  if is_late(record, payment) or over_limit(record[SALE], sale, record[USER], record[LINES])
    or short_of(record[SALE], record[LINES]) then
    note_refund(id, record, payment)
    return refused('reservation-expired')
  end
  transit(id, record, CONFIRMED, true)
  record[PAYMENT] = payment
  happened(pack({ 'B', return_of(id, record), payment }))
  return with_record('c', record, true)
end

decide.C = function(command)
  local id, payment = command[2], command[3]
  expire_if_due(id)
  local record = record_of(id)
  if not record then
    return refused('unknown-reservation')
  end
  local status = record[STATUS]
  if status == HELD then
    transit(id, record, CONFIRMED, true)
    record[PAYMENT] = payment
    happened(pack({ 'C', id, record[USER], record[VERSION], payment }))
    return with_record('c', record, false)
  elseif status == CONFIRMED and record[PAYMENT] == payment then
    -- Held is 1 and confirmed 2; only an expiry in between takes one more.
    return with_record('c', record, record[VERSION] > 2)
  elseif status == CONFIRMED then
    note_refund(id, record, payment)
    return refused('reservation-confirmed')
  elseif status == CANCELLED then
    note_refund(id, record, payment)
    return refused('reservation-cancelled')
  end
  return rebook(id, record, payment)
end
