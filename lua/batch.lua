-- Batch: one call of a lane. Everything in it is one atomic step.
--
-- ARGV        1 the caller's epoch  2 min_seq: the highest seq that the caller has seen
--             3 since: sales touched after this seq are reported, with the seq of their last touch, or ''
--             4 a letter for each command: 'c', or for a reservation that may be plain its wish, from \128 on
--             5 how often a user may reserve, as `rate` takes it, or ''  6 the wishes, packed
--             7 a field of `meta` for the caller's last call, or ''  8 what this call is known by, however often it is made
--             9 and on, for each command: of a plain one id and user; of 'c' the command, packed
-- Answer      1 head: status, epoch, seq, now, whether more holds are due, whether more is to report, how many
--               passed because there was no room to limit them, and if this very call was made before, its
--               instant and which of its commands were replays then, from 1 on
--             2 outcomes, one after the other  3 reports, one after the other  4 shapes, one after the other
-- Statuses    ok; empty: the lane was never made, is forgotten, or is being written anew; fenced: it is being
--             recovered; stale: its epoch is another; behind: it has forgotten what the caller has seen;
--             format: its state is of a version that this script does not know. In all but the first nothing
--             was done.

local FORMAT, REPORTS_MAX, COUNTERS_MAX = '2', 1100, 5000

local more, full, made_before, replayed_before = false, false, 0, ''

local function answer(status, outcomes, reports)
  local head = pack({ status, epoch or 0, seq or 0, now or 0, more, full, unlimited, made_before, replayed_before })
  return { head, outcomes or '', reports or '', table.concat(granted) }
end

local meta = call('HMGET', META, 'format', 'epoch', 'seq', 'now', 'fence', ARGV[7])
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

-- A call whose answer was lost is made again: what it granted the first time is no replay.
local known_by, made_at, replayed = string.match(meta[6] or '', '^(%S+) (%d+) ?(.*)$')
if known_by and known_by == ARGV[8] then
  made_before, replayed_before = tonumber(made_at), replayed
end

local decide, sweep, report_of
local function make_operations()
  if not decide then
    decide, sweep, report_of = operations()
  end
end

-- What reservations need is read in a few calls for all of them.
local arguments, letters, FIRST = ARGV, ARGV[4], 9
local limited = arguments[5] ~= ''
wishes = unpacked(arguments[6])
local accounts_of = {}
for number, wish in ipairs(wishes) do
  accounts_of[number] = wish[1] .. '/'
end
local commands, ids, users, shops, buyers = {}, {}, {}, {}, {}
local plain_ids, plain_users = {}, {}
local from, plain = FIRST, 0
for at = 1, #letters do
  local number = letters:byte(at) - 127
  if number > 0 then
    local user = arguments[from + 1]
    plain = plain + 1
    plain_ids[plain], plain_users[plain] = arguments[from], accounts_of[number] .. user
    if limited then
      buyers[#buyers + 1] = user
    end
    from = from + 2
  else
    local command = unpacked(arguments[from])
    local kind = command[1]
    if kind == 'R' then
      ids[#ids + 1] = command[2]
      users[#users + 1] = command[3] .. '/' .. command[4]
      shops[#shops + 1] = command[3]
      buyers[#buyers + 1] = command[4]
    elseif kind == 'C' or kind == 'X' or kind == 'F' then
      ids[#ids + 1] = command[2]
    end
    commands[at] = command
    from = from + 1
  end
end
read(RECORDS, records, ids)
read(ACCOUNTS, accounts, users)
read(SALES, sales, shops)
local known, had = {}, {}
if plain > 0 then
  known, had = call('HMGET', RECORDS, unpack(plain_ids)), call('HMGET', ACCOUNTS, unpack(plain_users))
end

-- Whether a user asks too often is asked before a reservation is decided, and of those only that are not there.
local too_often, write_down
if limited and #buyers > 0 then
  too_often, write_down = limit_users(arguments[5], tonumber(time[1]) * 1000000 + tonumber(time[2]), buyers)
end

-- Holds that ran out first, so that their units are there for whoever asks.
local before = seq
if #call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 1) > 0 then
  make_operations()
  more = select(2, sweep())
end

local outcomes = {}
from, plain = FIRST, 0
for at = 1, #letters do
  local command = commands[at]
  place = at
  if command then
    make_operations()
    local refusal = too_often and command[1] == 'R' and not record_of(command[2]) and too_often(command[4])
    outcomes[at] = refusal or decide[command[1]](command)
    if command[1] == 'M' or command[1] == 'N' then
      -- A sale is not what it was.
      shapes = {}
    end
    from = from + 1
  else
    plain = plain + 1
    local id, user, account = arguments[from], arguments[from + 1], plain_users[plain]
    local wish = wishes[letters:byte(at) - 127]
    local outcome = too_often and not known[plain] and not records[id] and too_often(user)
      or reserve_plain(id, user, wish, account, known[plain], had[plain])
    if not outcome then
      make_operations()
      if records[id] == nil then
        records[id] = known[plain]
      end
      if accounts[account] == nil then
        accounts[account] = had[plain] and unpacked(had[plain])
      end
      outcome = decide.R({ 'R', id, wish[1], user, { wish[2], wish[3] } })
    end
    outcomes[at] = outcome
    from = from + 2
  end
end
if ARGV[7] ~= '' and made_before == 0 then
  this_call = { ARGV[7], ARGV[8] .. ' ' .. whole(now) .. ' ' .. table.concat(replays, ' ') }
end
commit(before)
if write_down then
  write_down()
end

local reports = {}
if ARGV[3] ~= '' then
  local scored = call('ZRANGEBYSCORE', TOUCHED, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, REPORTS_MAX)
  local told, last = 0, nil
  full = #scored == 2 * REPORTS_MAX
  for at = 1, #scored, 2 do
    local score = tonumber(scored[at + 1])
    -- Never between two sales of one seq: whoever goes on after it would miss the second.
    if told > COUNTERS_MAX and score ~= last then
      full = true
      break
    end
    make_operations()
    local report = report_of(scored[at])
    report[#report + 1] = score
    reports[#reports + 1] = pack(report)
    told, last = told + #report[6], score
  end
end
return answer('ok', table.concat(outcomes), table.concat(reports))
