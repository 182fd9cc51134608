import { z } from 'zod'
import { FAILURE_CODES, type Failure, ORIGINS, PHASES } from './failure.js'

export const STATUSES = ['succeeded', 'failed', 'timed_out', 'canceled'] as const
export type Status = (typeof STATUSES)[number]
export const CAUSES = ['exited', 'deadline', 'idle', 'canceled', 'limit', 'lost'] as const
/** Why a container ended: of itself, or because the runtime ended it. */
export type ExitCause = (typeof CAUSES)[number]

const time = z.string()
const milliseconds = z.number().int().nonnegative().nullable()
const bytes = z.number().int().nonnegative().nullable()
const StoredSchema = z.object({
  uri: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string(),
})

export const FailureSchema: z.ZodType<Failure> = z.object({
  code: z.enum(FAILURE_CODES),
  origin: z.enum(ORIGINS),
  retryable: z.boolean(),
  phase: z.enum(PHASES),
  message: z.string(),
  hint: z.string(),
})

const AttemptSchema = z.object({
  attempt: z.number().int().positive(),
  fence: z.number().int(),
  worker: z.string(),
  startedAt: time,
  finishedAt: time.nullable(),
  failure: FailureSchema.nullable(),
})

const ChangedFileSchema = z.object({
  path: z.string(),
  from: z.string().nullable(),
  status: z.enum(['added', 'modified', 'deleted', 'renamed', 'type_changed']),
  mode: z.string().nullable(),
  binary: z.boolean(),
})

const ChangesSchema = z.object({
  files: z.array(ChangedFileSchema),
  insertions: z.number().int().nonnegative(),
  deletions: z.number().int().nonnegative(),
  tree: z.string(),
  patch: StoredSchema.nullable(),
  commits: z.array(
    z.object({
      sha: z.string(),
      author: z.object({ name: z.string(), email: z.string() }),
      message: z.string(),
    }),
  ),
  commit: z.string().nullable(),
  bundle: StoredSchema.nullable(),
  pushed: z.object({ branch: z.string(), sha: z.string() }).nullable(),
  notes: z.array(z.string()),
})

/** Exactly one per task. Every key is always present, null where it was not reached; readers ignore keys they don't know. */
export const ResultSchema = z.object({
  version: z.literal(1),
  taskId: z.string(),
  tenantId: z.string(),
  labels: z.record(z.string(), z.string()),
  status: z.enum(STATUSES),
  failure: FailureSchema.nullable(),
  createdAt: time,
  startedAt: time.nullable(),
  finishedAt: time,
  attempts: z.array(AttemptSchema),
  exit: z
    .object({
      code: z.number().int().nullable(),
      signal: z.string().nullable(),
      oomKilled: z.boolean(),
      cause: z.enum(CAUSES),
    })
    .nullable(),
  steps: z.array(
    z.object({ name: z.string(), exitCode: z.number().int().nullable(), durationMs: milliseconds }),
  ),
  base: z
    .object({ url: z.string().nullable(), ref: z.string().nullable(), commit: z.string().nullable() })
    .nullable(),
  changes: ChangesSchema.nullable(),
  output: z.unknown(),
  artifacts: z.array(StoredSchema.extend({ path: z.string(), mediaType: z.string() })),
  skipped: z.array(z.object({ path: z.string(), reason: z.string() })),
  logs: z
    .object({
      bytes: z.number().int().nonnegative(),
      lines: z.number().int().nonnegative(),
      truncated: z.boolean(),
      uri: z.string().nullable(),
    })
    .nullable(),
  usage: z.object({
    wallMs: milliseconds,
    cpuMs: milliseconds,
    memoryPeakBytes: bytes,
    pidsPeak: z.number().int().nonnegative().nullable(),
    networkRxBytes: bytes,
    networkTxBytes: bytes,
    diskBytes: bytes,
  }),
  timings: z.object({
    queuedMs: milliseconds,
    workspaceMs: milliseconds,
    imageMs: milliseconds,
    createMs: milliseconds,
    startMs: milliseconds,
    bootstrapMs: milliseconds,
    runMs: milliseconds,
    captureMs: milliseconds,
    reportMs: milliseconds,
  }),
  egressDenied: z.array(z.object({ host: z.string(), port: z.number().int(), count: z.number().int() })),
  container: z
    .object({
      id: z.string(),
      name: z.string(),
      image: z.string(),
      imageDigest: z.string().nullable(),
      parked: z.boolean(),
      strategy: z.string(),
    })
    .nullable(),
  worker: z.object({ id: z.string(), host: z.string() }).nullable(),
})
export type TaskResult = z.infer<typeof ResultSchema>
export type AttemptRecord = z.infer<typeof AttemptSchema>
export type ChangedFile = z.infer<typeof ChangedFileSchema>
export type Changes = z.infer<typeof ChangesSchema>
export type StepResult = TaskResult['steps'][number]
export type Stored = z.infer<typeof StoredSchema>
export type Artifact = TaskResult['artifacts'][number]
export type Skipped = TaskResult['skipped'][number]
export type Usage = TaskResult['usage']
export type Timings = TaskResult['timings']
export type LogSummary = NonNullable<TaskResult['logs']>
