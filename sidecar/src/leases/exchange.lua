-- All Lua of Tidegate: one exchange of a gateway with the pools it uses.
--
-- A pool is a token bucket that gateways lease from (core/src/limit/lease). It is kept as one
-- number, the moment at which it will be full again (the generic cell rate algorithm), so an
-- absent pool is a full one, and idle pools simply expire. Pool::exchange in core/src/limit/lease
-- does the same in Rust; a test holds the two against each other.
--
-- Redis's own clock counts, in microseconds. All keys share one hash tag, so that one call is one
-- operation on one node of a cluster, however many pools it is about.
--
-- KEYS[1]      sorted set of gateways by when they were last seen
-- KEYS[i + 1]  pool i: "full_at gateway:came_at gateway:came_at ...", who came last first
-- ARGV[1]      number of this gateway
-- ARGV[2]      how long a gateway counts after it was last seen
-- ARGV[3]      how long a gateway that came to a pool counts as one of several
-- ARGV[4]      how many gateways are remembered of one pool
-- ARGV[4i + 1 .. 4i + 4]  of pool i: time that one token takes to come back, burst, tokens asked
--              for, tokens given back
--
-- While several gateways come, each has a claim on an equal part of what came back since its last
-- visit, so that nobody gets more by coming first; of what is there beyond all claims it gets
-- half, and so nothing stays unused for long; and one token in any case, since claims on a small
-- bucket may all be less than one.
--
-- Returns the number of gateways, and for each pool the tokens granted and the time until it is
-- full. Two words a pool, never a float, because Redis cuts those off.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gateway, contest = ARGV[1], tonumber(ARGV[3])

redis.call('ZADD', KEYS[1], now, gateway)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
local answer = { redis.call('ZCARD', KEYS[1]) }
if #KEYS == 1 then
  return answer
end

local visitors_max = tonumber(ARGV[4])
local kept = redis.call('MGET', unpack(KEYS, 2))
for i, value in ipairs(kept) do
  local interval, burst = tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
  local ask, back = tonumber(ARGV[4 * i + 3]), tonumber(ARGV[4 * i + 4])
  local depth = interval * burst

  local full_at, own, others, sharers = 0, 0, 0, 1
  local visitors = { string.format('%s:%.0f', gateway, now) }
  if value then
    full_at = tonumber(string.match(value, '^%S+')) or 0
    for name, came_at in string.gmatch(value, ' (%x+):(%d+)') do
      local since = math.max(0, math.min(now - came_at, contest))
      if name == gateway then
        own = since
      elseif since < contest then
        others, sharers = others + since, sharers + 1
        if #visitors < visitors_max then
          visitors[#visitors + 1] = name .. ':' .. came_at
        end
      end
    end
  end

  -- Never more than full, and never emptier than empty: a clock that jumped locks nobody out.
  full_at = full_at - back * interval
  full_at = math.max(now, math.min(full_at, now + depth))
  local there = math.floor((depth - (full_at - now)) / interval + 1e-6)
  local most = there
  if sharers > 1 then
    local claim, claims = own / interval / sharers, (own + others) / interval / sharers
    local surplus = math.max(0, there - claims)
    most = math.max(1, math.floor(claim + 1e-6) + math.ceil(surplus / 2 - 1e-6))
    most = math.min(there, most)
  end
  local tokens = math.min(ask, most)
  full_at = full_at + tokens * interval

  local life = math.ceil((full_at - now + contest) / 1000)
  local words = string.format('%.3f ', full_at) .. table.concat(visitors, ' ')
  redis.call('SET', KEYS[i + 1], words, 'PX', life)
  answer[2 * i] = tokens
  answer[2 * i + 1] = math.ceil(full_at - now)
end
return answer
