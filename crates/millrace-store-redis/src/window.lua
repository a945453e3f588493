-- Marks the numbers [first, next) of one producer as logged. One key, atomic, and running it twice
-- is as running it once. It does what millrace_store::window::ProducerWindow::mark does.
--
-- KEYS[1]: the producer's window, a hash of
--   e  the layout of the other fields; missing reads as -1
--   b  the least number that anything is known about
--   n  every number from b up to n is marked, n itself is not
--   m  a bitmap of what is marked beyond n: bit s % 8 of byte floor(s / 8) - floor(n / 8)
-- ARGV: layout, first, next, capacity, milliseconds until it expires. The reply: {status, b, n}, where
-- status 1 says that a newer layout stands there and nothing was changed.
--
-- Numbers are doubles here: the caller keeps them at or below 2^53.
local layout, first, after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local capacity, expiry = tonumber(ARGV[4]), tonumber(ARGV[5])
if not (first >= 0 and after > first and after <= 9007199254740992) then
  return redis.error_reply('BADSEQ numbers must rise and lie below 2^53')
end

local found = redis.call('HMGET', KEYS[1], 'e', 'b', 'n', 'm')
local e = tonumber(found[1] or -1)
if e > layout then
  return {1, found[2], found[3]}
end
local b, n, m = first, after, ''
if e == layout then
  b, n, m = tonumber(found[2]), tonumber(found[3]), found[4] or ''

  -- Moves n up to a number, dropping the bits below it.
  local function move(to)
    m = string.sub(m, math.floor(to / 8) - math.floor(n / 8) + 1)
    n = to
    if m ~= '' then
      local kept = bit.band(string.byte(m, 1), bit.lshift(255, n % 8), 255)
      m = string.char(kept) .. string.sub(m, 2)
    end
  end

  -- Sets the bits of [first, after), which lies beyond n.
  local function set()
    local origin = math.floor(n / 8)
    local i, j = math.floor(first / 8) - origin, math.floor((after - 1) / 8) - origin
    if #m <= j then
      m = m .. string.rep('\0', j + 1 - #m)
    end
    local low = bit.band(bit.lshift(255, first % 8), 255)
    local high = bit.rshift(255, 7 - (after - 1) % 8)
    local bits
    if i == j then
      bits = string.char(bit.bor(string.byte(m, i + 1), bit.band(low, high)))
    else
      bits = string.char(bit.bor(string.byte(m, i + 1), low)) .. string.rep('\255', j - i - 1)
        .. string.char(bit.bor(string.byte(m, j + 1), high))
    end
    m = string.sub(m, 1, i) .. bits .. string.sub(m, j + 2)
  end

  -- Moves n over the marked numbers that follow it.
  local function absorb()
    local to, i = n, 1
    while i <= #m do
      local byte = string.byte(m, i)
      while bit.band(byte, bit.lshift(1, to % 8)) ~= 0 do
        to = to + 1
        if to % 8 == 0 then break end
      end
      if math.floor(to / 8) - math.floor(n / 8) < i then break end
      i = i + 1
    end
    move(to)
    local length = #m
    while length > 0 and string.byte(m, length) == 0 do
      length = length - 1
    end
    m = string.sub(m, 1, length)
  end

  -- Below b everything stays unknown, unless the batch reaches up to it.
  if after >= b then
    b = math.min(b, first)
    if after > n then
      if first > n and after - n > capacity then
        -- Too far ahead: what lies in between is forgotten.
        move(after - capacity)
        b = n
      end
      if first <= n then move(after) else set() end
      absorb()
    end
  end
end

redis.call('HSET', KEYS[1], 'e', string.format('%.0f', layout), 'b', string.format('%.0f', b),
  'n', string.format('%.0f', n), 'm', m)
redis.call('PEXPIRE', KEYS[1], expiry)
return {0, string.format('%.0f', b), string.format('%.0f', n)}
