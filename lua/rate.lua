-- Rate: how often a user may ask for units, through whatever gateways (GCRA).
--
-- Argument    microseconds until there is one token more, and how many can be saved up, with a blank between
-- KEYS        11 rate  12 rate_before: by user, the microsecond at which their bucket is full again. 11 has those
--             who paid in this turn, and under '' when it began; 12 those who did in the turn before
-- Refusals    rate-limited (microseconds until there is a token)
-- Invariants  whoever is refused pays nothing; a turn is no shorter than it takes to fill a bucket, so whoever is
--             in neither hash has a full one; RATE_USERS_MAX users in a turn: whoever is new then pays nothing, and
--             is counted. By the server's clock: where that stepped back, a bucket is empty at worst.

local RATE, RATE_BEFORE = KEYS[11], KEYS[12]
-- Bounds that the gateway knows by the same names.
local RATE_USERS_MAX, RATE_TURN_US = 100000, 1000000

-- How many have passed who could not be written down.
local unlimited = 0

-- Two functions for a call: the refusal of a user, or nothing where they paid; and what writes down who has paid.
local function limit_users(argument, clock, users)
  local period, burst = argument:match('^(%d+) (%d+)$')
  period, burst = tonumber(period), tonumber(burst)
  local longest = period * burst
  local slack, turn = longest - period, math.max(longest, RATE_TURN_US)
  local current = call('HMGET', RATE, '', unpack(users))
  local before = call('HMGET', RATE_BEFORE, '', unpack(users))
  local began = current[1] and tonumber(current[1])
  local over = not began or clock < began or clock >= began + turn
  local room = RATE_USERS_MAX - (over and 0 or call('HLEN', RATE) - 1)
  local full_at, kept, changed = {}, {}, {}

  local function keep(user)
    if not kept[user] then
      if room <= 0 then
        return false
      end
      kept[user] = true
      room = room - 1
    end
    changed[user] = true
    return true
  end

  for at, user in ipairs(users) do
    local known = current[at + 1]
    kept[user] = known and not over
    full_at[user] = tonumber(known or before[at + 1] or 0)
    if full_at[user] > clock + longest then
      -- By another rate, or before the clock stepped back: from now on it is an empty bucket of this rate.
      full_at[user] = clock + longest
      keep(user)
    end
  end

  local function too_often(user)
    local wait = full_at[user] - slack - clock
    if wait > 0 then
      return refused('rate-limited', wait)
    end
    full_at[user] = math.max(full_at[user], clock) + period
    if not keep(user) then
      unlimited = unlimited + 1
    end
    return nil
  end

  local function write_down()
    if next(changed) == nil then
      return
    end
    if over then
      -- The turn before the last is forgotten whole, whatever it has grown to, and by a thread of Redis's.
      call('UNLINK', RATE_BEFORE)
      if began then
        call('RENAME', RATE, RATE_BEFORE)
      end
    end
    local values = over and { '', whole(clock) } or {}
    for user in pairs(changed) do
      values[#values + 1] = user
      values[#values + 1] = whole(full_at[user])
    end
    write_list('HSET', RATE, values)
    -- Two turns from here, for when nobody asks any more.
    call('PEXPIRE', RATE, whole(math.ceil(turn / 500)))
  end

  return too_often, write_down
end
