-- Batch: one call of a lane. Everything in it is one atomic step.
--
-- ARGV        1 the caller's epoch  2 min_seq: the highest seq that the caller has seen  3 commands, packed
--             4 since: sales touched after this seq are reported, with the seq of their last touch, or ''
-- Answer      1 head: status, epoch, seq, now, whether more holds are due, whether more is to report
--             2 outcomes, one after the other  3 reports, one after the other
-- Statuses    ok; empty: the lane was never made, is forgotten, or is being written anew; fenced: it is being
--             recovered; stale: its epoch is another; behind: it has forgotten what the caller has seen;
--             format: its state is of a version that this script does not know. In all but the first nothing
--             was done.

local FORMAT, REPORTS_MAX, COUNTERS_MAX = '1', 1100, 5000

local more, full = false, false

local function answer(status, outcomes, reports)
  return { pack({ status, epoch or 0, seq or 0, now or 0, more, full }), outcomes or '', reports or '' }
end

local meta = call('HMGET', META, 'format', 'epoch', 'seq', 'now', 'fence')
if not meta[1] then
  return answer('empty')
end
if meta[1] ~= FORMAT then
  return answer('format')
end
epoch, seq, now = tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
if meta[5] then
  return answer('fenced')
end
if epoch ~= tonumber(ARGV[1]) then
  return answer('stale')
end
if seq < tonumber(ARGV[2]) then
  return answer('behind')
end
local time = call('TIME')
now = math.max(now, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

-- What reservations need is read in a few calls for all of them.
local commands = unpacked(ARGV[3])
local ids, users, shops = {}, {}, {}
for _, command in ipairs(commands) do
  local kind = command[1]
  if kind == 'R' then
    ids[#ids + 1] = command[2]
    users[#users + 1] = command[3] .. '/' .. command[4]
    shops[#shops + 1] = command[3]
  elseif kind == 'C' or kind == 'X' or kind == 'F' then
    ids[#ids + 1] = command[2]
  end
end
read(RECORDS, records, ids)
read(ACCOUNTS, accounts, users)
read(SALES, sales, shops)

-- Holds that ran out first, so that their units are there for whoever asks.
more = select(2, sweep())
local outcomes = {}
for at, command in ipairs(commands) do
  outcomes[at] = decide[command[1]](command)
end
commit()

local reports = {}
if ARGV[4] ~= '' then
  local scored = call('ZRANGEBYSCORE', TOUCHED, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, REPORTS_MAX)
  local told, before = 0, nil
  full = #scored == 2 * REPORTS_MAX
  for at = 1, #scored, 2 do
    local score = tonumber(scored[at + 1])
    -- Never between two sales of one seq: whoever goes on after it would miss the second.
    if told > COUNTERS_MAX and score ~= before then
      full = true
      break
    end
    local report = report_of(scored[at])
    report[#report + 1] = score
    reports[#reports + 1] = pack(report)
    told, before = told + #report[6], score
  end
end
return answer('ok', table.concat(outcomes), table.concat(reports))
