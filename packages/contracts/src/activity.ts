import type { ActivityMinute, EndedTask } from './live.js'
import type { RedisNames } from './names.js'
import type { Status, TaskResult } from './result.js'

const MINUTE_MS = 60_000
const STATUS = 'status:'
const CODE = 'code:'

/** The number of a minute since 1970, as the keys of `activity` have it. @param at in Unix milliseconds */
export function minuteOf(at: number): number {
  return Math.floor(at / MINUTE_MS)
}

/** What FINISH is told of a result beside it, so that what ended can be counted: two keys, and arguments. */
export function endOf(
  result: TaskResult,
  names: Pick<RedisNames, 'activity' | 'recent'>,
): { keys: [string, string]; values: (string | number)[] } {
  const { taskId, tenantId, status, failure, createdAt, startedAt, finishedAt, timings, usage } = result
  const code = failure?.code ?? null
  const ended: EndedTask = { taskId, tenantId, status, code, finishedAt, wallMs: usage.wallMs }
  // Who never began has waited until its end.
  const waitedMs = startedAt === null ? Math.max(0, Date.parse(finishedAt) - Date.parse(createdAt)) : 0
  const grown = Object.entries({
    [`${STATUS}${status}`]: 1,
    ...(code === null ? {} : { [`${CODE}${code}`]: 1 }),
    queuedMs: Math.round(timings.queuedMs ?? waitedMs),
    runMs: Math.round(timings.runMs ?? 0),
    parked: result.container?.parked ? 1 : 0,
  }).filter(([, by]) => by > 0)
  return {
    keys: [names.activity(minuteOf(Date.parse(finishedAt))), names.recent],
    values: [JSON.stringify(ended), grown.length, ...grown.flat()],
  }
}

/** A minute of `activity` as Redis has it; empty when nothing ended in it. */
export function activityOf(hash: Readonly<Record<string, string>>, minute: number): ActivityMinute {
  const fields = Object.entries(hash)
  const counts = (prefix: string) =>
    Object.fromEntries(
      fields
        .filter(([field]) => field.startsWith(prefix))
        .map(([field, count]) => [field.slice(prefix.length), Number(count)]),
    )
  return {
    at: new Date(minute * MINUTE_MS).toISOString(),
    statuses: counts(STATUS) as Partial<Record<Status, number>>,
    failures: counts(CODE),
    queuedMs: Number(hash.queuedMs ?? 0),
    runMs: Number(hash.runMs ?? 0),
    parked: Number(hash.parked ?? 0),
  }
}
