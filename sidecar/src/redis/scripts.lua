-- All Lua of Tidegate. A line `-- script: NAME` begins each script; src/redis/script.rs cuts here.
-- Every script takes keys of one hash tag, so that one call is one operation on one node of a
-- cluster, however much it is about.

-- script: lease
-- One exchange of a gateway with the pools it uses.
--
-- A pool is a token bucket that gateways lease from (core/src/limit/lease). It is kept as one
-- number, the moment at which it will be full again (the generic cell rate algorithm), so an
-- absent pool is a full one, and idle pools simply expire. Pool::exchange in core/src/limit/lease
-- does the same in Rust; a test holds the two against each other.
--
-- Redis's own clock counts, in microseconds.
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

-- script: usage
-- One exchange of a gateway about what tenants have used in a month (src/limits/fleet).
--
-- Each gateway has a row for each tenant, which only it raises. Rows come as texts whose first
-- number is the number of requests; of two versions the one with more is the newer. So it does no
-- harm if a row comes twice, or late, or from another gateway that remembers it.
--
-- KEYS[1]  hash of rows, by gateway and tenant; under '#' the epoch: which memory this is
-- KEYS[2]  sorted set of rows by the number of their last change; '#' has the last number
-- ARGV[1]  the epoch, if there is none yet
-- ARGV[2]  the epoch that the gateway has followed
-- ARGV[3]  number of the last change that it has heard of
-- ARGV[4]  how many rows are returned at most
-- ARGV[5]  when the keys expire, in seconds since 1970
-- ARGV[6 .. ]  rows of the gateway: name, value
--
-- If either key was lost, the rest is no memory any more: gateways see another epoch, and send
-- all that they remember.
--
-- Returns the epoch (empty if there is nothing), the number of the last change returned, that of
-- the last change there is, and names and values of rows that have changed since.

local epoch = redis.call('HGET', KEYS[1], '#')
local last = tonumber(redis.call('ZSCORE', KEYS[2], '#') or '')
if not (epoch and last) then
  if #ARGV == 5 then
    return { '', '0', '0' }
  end
  epoch, last = ARGV[1], 0
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], '#', epoch)
  redis.call('ZADD', KEYS[2], last, '#')
  redis.call('EXPIREAT', KEYS[1], ARGV[5])
  redis.call('EXPIREAT', KEYS[2], ARGV[5])
end

if #ARGV > 5 then
  local names, rows, changes = {}, {}, {}
  for i = 6, #ARGV, 2 do
    names[#names + 1] = ARGV[i]
  end
  for i, kept in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
    local value = ARGV[2 * i + 5]
    local requests = tonumber(string.match(value, '^%d+'))
    if not kept or tonumber(string.match(kept, '^%d+')) < requests then
      last = last + 1
      rows[#rows + 1], rows[#rows + 2] = names[i], value
      changes[#changes + 1], changes[#changes + 2] = last, names[i]
    end
  end
  if #rows > 0 then
    redis.call('HSET', KEYS[1], unpack(rows))
    redis.call('ZADD', KEYS[2], last, '#', unpack(changes))
  end
end

local since = ARGV[2] == epoch and tonumber(ARGV[3]) or 0
local answer = { epoch, string.format('%.0f', last), string.format('%.0f', last) }
if since < last then
  local range = { '(' .. string.format('%.0f', since), '+inf', 'LIMIT', 0, ARGV[4] }
  local changed, names = redis.call('ZRANGEBYSCORE', KEYS[2], unpack(range)), {}
  for _, name in ipairs(changed) do
    if name ~= '#' then
      names[#names + 1] = name
    end
  end
  if #names > 0 then
    for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
      if value then
        answer[#answer + 1], answer[#answer + 2] = names[i], value
      end
    end
    -- '#' shares the number of the last row, so a full page without it may not be the end.
    if #changed == tonumber(ARGV[4]) then
      answer[2] = redis.call('ZSCORE', KEYS[2], names[#names])
    end
  end
end
return answer
