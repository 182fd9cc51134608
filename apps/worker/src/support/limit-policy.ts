import { formatSize, parseSize } from '@agirunner/contracts'
import { z } from 'zod'

const size = (least: number) =>
  z.string().transform((value, context) => {
    try {
      const bytes = parseSize(value)
      if (bytes >= least) return bytes
      context.addIssue({ code: 'custom', message: `must be at least ${formatSize(least)}` })
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message })
    }
    return z.NEVER
  })
const number = (least: number, most: number) => z.coerce.number().min(least).max(most)

const MIB = 1024 ** 2
/** Exact: a message must not say that 1Gi is more than 1Gi. */
const exactSize = (bytes: number) => {
  const text = formatSize(bytes)
  return parseSize(text) === bytes ? text : `${bytes} bytes`
}
const sizes = (least: number) => ({ schema: size(least), show: exactSize })
/** `schema` reads the variables; its bounds are those that the contract has for the task's own key. */
const KINDS = {
  cpu: { schema: number(0.01, 1024), show: (cpus: number) => `${cpus}` },
  memory: sizes(6 * MIB),
  pids: { schema: number(4, 4_194_304).int(), show: (pids: number) => `${pids}` },
  disk: sizes(MIB),
  bytes: sizes(0),
  seconds: { schema: number(0.001, 30 * 24 * 3600), show: (seconds: number) => `${seconds} s` },
} as const

/** Every limit of a task that an operator may bound: its place in the task, and the end of its variables' names. */
const LIMITS = [
  { variable: 'CPU', group: 'resources', key: 'cpu', ...KINDS.cpu, ceiling: 1024 },
  { variable: 'MEMORY', group: 'resources', key: 'memory', ...KINDS.memory, ceiling: null },
  { variable: 'PIDS', group: 'resources', key: 'pids', ...KINDS.pids, ceiling: 32_768 },
  { variable: 'DISK', group: 'resources', key: 'disk', ...KINDS.disk, ceiling: 64 * 1024 * MIB },
  { variable: 'TMP', group: 'resources', key: 'tmp', ...KINDS.bytes, ceiling: null },
  { variable: 'SHM', group: 'resources', key: 'shm', ...KINDS.bytes, ceiling: null },
  { variable: 'TIMEOUT', group: 'limits', key: 'timeout', ...KINDS.seconds, ceiling: 24 * 3600 },
  { variable: 'LOG', group: 'limits', key: 'logBytes', ...KINDS.bytes, ceiling: 1024 * MIB },
  { variable: 'OUTPUT', group: 'limits', key: 'outputBytes', ...KINDS.bytes, ceiling: 16 * 1024 * MIB },
] as const

type LimitVariable = `AGIRUNNER_${'MAX' | 'DEFAULT'}_${(typeof LIMITS)[number]['variable']}`

/** `AGIRUNNER_MAX_*` and `AGIRUNNER_DEFAULT_*`, all optional. */
export const LIMIT_VARIABLES = Object.fromEntries(
  LIMITS.flatMap(({ variable, schema }) => [
    [`AGIRUNNER_MAX_${variable}`, schema.optional()],
    [`AGIRUNNER_DEFAULT_${variable}`, schema.optional()],
  ]),
) as unknown as Record<LimitVariable, z.ZodOptional<z.ZodType<number>>>

/** What an operator says of one limit. Sizes are in bytes, times in seconds. */
export interface LimitRule {
  readonly variable: string
  readonly group: 'resources' | 'limits'
  readonly key: string
  readonly show: (value: number) => string
  /** The most that a task may ask for. Null: as much as the engine's machine has memory. */
  readonly ceiling: number | null
  /** For tasks that don't name the limit; null where the contract's own default holds. */
  readonly fallback: number | null
}

export type LimitPolicy = readonly LimitRule[]

/** @param values the variables as read; what is not set has the ceiling of the table above and the contract's default */
export function limitPolicy(values: Partial<Record<LimitVariable, number | undefined>>): LimitPolicy {
  return LIMITS.map(({ variable, group, key, show, ceiling }) => ({
    variable,
    group,
    key,
    show,
    ceiling: values[`AGIRUNNER_MAX_${variable}`] ?? ceiling,
    fallback: values[`AGIRUNNER_DEFAULT_${variable}`] ?? null,
  }))
}

/** The policy on a machine: more memory than it has is no limit that anything could hold a task to. */
export function boundByMachine(policy: LimitPolicy, memoryBytes: number): LimitPolicy {
  return policy.map(rule => ({ ...rule, ceiling: rule.ceiling ?? memoryBytes }))
}
