/**
 * The Redis side of the contract: each change that must be all or nothing is one Lua script, shared by every program
 * that speaks to the same keys. All keys are in one slot (see names.ts).
 */
import { ACTIVITY_SECONDS, RECENT_TASKS } from './live.js'

/**
 * Registers tasks under their taskIds, many in one call: a call each takes the producer and Redis several times as long.
 * KEYS expiring, then for each task record, events · ARGV createdAt, then for each task hash, task JSON, queued event
 * JSON, taskId, when its waiting ends in Unix milliseconds (empty: never)
 * @returns for each task `created`, `same` or `conflict`
 */
export const ENQUEUE = `
local verdicts = {}
for i = 1, (#KEYS - 1) / 2 do
  local record, events, arg = KEYS[2 * i], KEYS[2 * i + 1], 5 * i - 3
  local known = redis.call('HGET', record, 'hash')
  if not known then
    redis.call('HSET', record, 'hash', ARGV[arg], 'task', ARGV[arg + 1], 'createdAt', ARGV[1], 'state', 'queued')
    local seq = redis.call('HINCRBY', record, 'eventSeq', 1)
    redis.call('XADD', events, seq .. '-0', 'e', ARGV[arg + 2])
    if ARGV[arg + 4] ~= '' then redis.call('ZADD', KEYS[1], ARGV[arg + 4], ARGV[arg + 3]) end
    verdicts[i] = 'created'
  elseif known == ARGV[arg] then
    verdicts[i] = 'same'
  else
    verdicts[i] = 'conflict'
  end
end
return verdicts
`

/**
 * Finds the taskIds that are taken.
 * KEYS the records
 * @returns for each the hash of its task, empty where there is none
 */
export const FIND_HASHES = `
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGET', KEYS[i], 'hash') or '' end
return found
`

/**
 * Takes the fence of a task whose waiting has ended before its first attempt began, so that its result can be written;
 * with that the task waits no more, or never did.
 * KEYS record, result, lease, fence counter, expiring · ARGV taskId
 * @returns the fence, or 0 when the task is finished, running, or has run
 */
export const TAKE_EXPIRED = `
redis.call('ZREM', KEYS[5], ARGV[1])
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'attempt') == 1 then return 0 end
local fence = redis.call('INCR', KEYS[4])
redis.call('HSET', KEYS[1], 'fence', fence)
return fence
`

/**
 * Starts an attempt: takes the next fence and the lease, unless the task is finished or another attempt holds the lease.
 * With them comes all else that is known of the task, so that its way to its first output has one question less.
 * KEYS record, result, lease, fence counter, cancel · ARGV worker id, startedAt, lease in ms
 * @returns `['finished']`, `['leased', ms left]` or `['started', fence, attempt, the record's fields and values, why it
 * is canceled or null]`
 */
export const BEGIN_ATTEMPT = `
if redis.call('EXISTS', KEYS[2]) == 1 then return {'finished'} end
local left = redis.call('PTTL', KEYS[3])
if left > 0 then return {'leased', left} end
local fence = redis.call('INCR', KEYS[4])
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'fence', fence, 'state', 'running', 'attempt:' .. attempt, cjson.encode({
  attempt = attempt, fence = fence, worker = ARGV[1], startedAt = ARGV[2], finishedAt = cjson.null, failure = cjson.null
}))
redis.call('SET', KEYS[3], fence, 'PX', ARGV[3])
return {'started', fence, attempt, redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[5])}
`

/**
 * Takes the next fence of a task that no attempt is running, so that its result can be written without one.
 * KEYS record, result, lease, fence counter
 * @returns the fence, or 0 when the task is finished or running
 */
export const TAKE_FENCE = `
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
local fence = redis.call('INCR', KEYS[4])
redis.call('HSET', KEYS[1], 'fence', fence)
return fence
`

/**
 * Notes that an attempt's first command runs: from here on it counts.
 * KEYS record · ARGV fence, attempt
 * @returns 1, or 0 when a later attempt has taken over
 */
export const MARK_RAN = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'ran:' .. ARGV[2], '1')
return 1
`

/**
 * Takes back that an attempt ran: its container did not start after all.
 * KEYS record · ARGV fence, attempt
 * @returns 1, or 0 when a later attempt has taken over
 */
export const UNMARK_RAN = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'ran:' .. ARGV[2])
return 1
`

/**
 * Renews the lease of an attempt that is still the current one.
 * KEYS record, lease · ARGV fence, lease in ms
 * @returns 1, or 0 when a later attempt has taken over
 */
export const RENEW_LEASE = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
`

/**
 * Ends an attempt without ending the task, so that another can follow.
 * KEYS record, lease · ARGV fence, attempt, attempt JSON
 * @returns 1, or 0 when a later attempt has taken over
 */
export const END_ATTEMPT = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[2], ARGV[3], 'state', 'queued')
redis.call('DEL', KEYS[2])
return 1
`

/**
 * Forgets an attempt whose worker gives the task back to the queue.
 * KEYS record, lease · ARGV fence, attempt
 * @returns 1, or 0 when a later attempt has taken over
 */
export const GIVE_BACK = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'attempt:' .. ARGV[2], 'ran:' .. ARGV[2])
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('DEL', KEYS[2])
return 1
`

/**
 * Appends events, each with the next seq of its task.
 * KEYS record, events · ARGV fence (empty: none is compared), then event JSON texts
 * @returns how many were written; 0 when a later attempt has taken over
 */
export const APPEND_EVENTS = `
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
for i = 2, #ARGV do
  local seq = redis.call('HINCRBY', KEYS[1], 'eventSeq', 1)
  redis.call('XADD', KEYS[2], seq .. '-0', 'e', ARGV[i])
end
return #ARGV - 1
`

/**
 * Appends log entries under their own seq; one that is there already is passed over, so a batch may be sent again. What
 * else keeps Redis from taking one is thrown: an entry that is missing would be missed by nobody.
 * KEYS record, log · ARGV fence, then for each entry its seq, its JSON without the text, and the text's bytes
 * @returns 1, or 0 when a later attempt has taken over
 */
export const APPEND_LOG = `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 3 do
  local reply = redis.pcall('XADD', KEYS[2], ARGV[i] .. '-0', 'e', ARGV[i + 1], 't', ARGV[i + 2])
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'equal or smaller', 1, true) then return reply end
end
return 1
`

/**
 * Writes the one result of a task, if the writer's attempt is still the current one, and counts it: so it is counted once.
 * KEYS record, result, events, log, lease, cancel, activity of the minute, recent · ARGV fence, result JSON, attempt,
 * attempt JSON (empty: none), retention in seconds, done channel, taskId, the EndedTask's JSON, how many fields of the
 * minute's activity grow, for each of these its name and by how much, then the last events' JSON
 * @returns `written`, `exists` or `stale`
 */
export const FINISH = `
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 'stale' end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[3], ARGV[4]) end
redis.call('HSET', KEYS[1], 'state', 'finished')
redis.call('SET', KEYS[2], ARGV[2])
local counted = 9 + 2 * ARGV[9]
for i = 10, counted, 2 do redis.call('HINCRBY', KEYS[7], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[7], ${ACTIVITY_SECONDS})
redis.call('LPUSH', KEYS[8], ARGV[8])
redis.call('LTRIM', KEYS[8], 0, ${RECENT_TASKS - 1})
for i = counted + 1, #ARGV do
  local seq = redis.call('HINCRBY', KEYS[1], 'eventSeq', 1)
  redis.call('XADD', KEYS[3], seq .. '-0', 'e', ARGV[i])
end
redis.call('XADD', KEYS[4], '*', 'end', '1')
redis.call('DEL', KEYS[5])
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
redis.call('EXPIRE', KEYS[6], ARGV[5])
redis.call('PUBLISH', ARGV[6], ARGV[7])
return 'written'
`

/**
 * Asks for a task to be canceled; the first reason stays.
 * KEYS record, result, cancel, events · ARGV reason, channel, taskId, event JSON
 * @returns `unknown`, `finished`, `requested` or `already`
 */
export const CANCEL = `
if redis.call('EXISTS', KEYS[1]) == 0 then return 'unknown' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'finished' end
local first = redis.call('SET', KEYS[3], ARGV[1], 'NX')
if first then
  local seq = redis.call('HINCRBY', KEYS[1], 'eventSeq', 1)
  redis.call('XADD', KEYS[4], seq .. '-0', 'e', ARGV[4])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
if first then return 'requested' end
return 'already'
`
