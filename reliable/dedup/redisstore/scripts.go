package redisstore

import "github.com/redis/go-redis/v9"

// A record is a hash: g and n the fence, d whether it is done, t the token, l and k until when it is leased and
// kept, in microseconds since 1970. The scripts say what dedup.Record says. Their arguments are the time, the
// token, an attempt (generation, number), the lease and the time to be kept.
//
// Redis forgets the hash by itself a second after k, when it does not count any more. Numbers are formatted,
// because Lua would write large ones with an exponent.
const prelude = `
local function micros()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function text(n) return string.format('%.0f', n) end
local now, token = micros(), ARGV[2]
local generation, number = tonumber(ARGV[3]), tonumber(ARGV[4])
local lease, keep = tonumber(ARGV[5]), tonumber(ARGV[6])
local key = KEYS[1]
local r = redis.call('HMGET', key, 'g', 'n', 'd', 't', 'l', 'k')
local there = r[6] and tonumber(r[6]) > now
local function kept(...)
  redis.call('HSET', key, 'k', text(now + keep), ...)
  redis.call('PEXPIRE', key, text(math.ceil(keep / 1000) + 1000))
end
`

var (
	// beginScript answers with a dedup.Status and how many microseconds the lease lasts.
	beginScript = redis.NewScript(prelude + `
if there then
  if r[3] == '1' then return {3, 0} end
  local g, n, until_ = tonumber(r[1]), tonumber(r[2]), tonumber(r[5])
  if generation < g or (generation == g and number < n) then return {4, 0} end
  -- With our own token the client has asked again, because it did not hear the answer.
  if until_ > now and r[4] ~= token then return {2, until_ - now} end
end
kept('g', ARGV[3], 'n', ARGV[4], 'd', '0', 't', token, 'l', text(now + lease))
return {1, lease}`)

	// changeScript answers whether the token had the lease.
	changeScript = redis.NewScript(prelude + `
if not there or r[4] ~= token then return false end
local what, leased, done = ARGV[7], r[5] ~= '0', r[3] == '1'
if what == 'renew' then
  if not leased then return false end
  kept('l', text(now + lease))
elseif what == 'complete' then
  if not leased and not done then return false end
  kept('d', '1', 'l', '0')
else
  local again = not done and r[1] == ARGV[3] and r[2] == ARGV[4]
  if not leased and not again then return false end
  kept('g', ARGV[3], 'n', ARGV[4], 'l', '0')
end
return true`)
)
