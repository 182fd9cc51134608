import { createHash } from 'node:crypto'
import { z } from 'zod'
import { DEFAULT_IMAGE } from './catalog.js'
import { FAILURE_CODES, ORIGINS } from './failure.js'
import { parseAllowedHost } from './network-host.js'
import { isBranchName } from './ref-name.js'
import { parseSize } from './size.js'
import { checkShape, MAX_TASK_BYTES, nearest, SpecError } from './spec-error.js'

/** Linux refuses one argument or environment string of 128 KiB or more (MAX_ARG_STRLEN), its final NUL included. */
const MAX_STRING = 128 * 1024 - 1

export const TASK_ID = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/
/** Whose a task is that names no tenant. */
export const DEFAULT_TENANT = 'default'

const size = z.union([z.string(), z.number()]).transform((value, context) => {
  try {
    return parseSize(value)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})
/** The kernel and the engine take 0 for no limit, or for one of their own. */
const atLeastPage = size.refine(bytes => bytes >= 4096, 'must be at least 4k')
const seconds = z
  .number()
  .positive()
  .max(30 * 24 * 3600)
const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine(value => !value.includes('\0'), 'must not hold a NUL byte')
const argument = z
  .string()
  .refine(value => !value.includes('\0'), 'must not hold a NUL byte')
  .refine(
    value => Buffer.byteLength(value) < MAX_STRING,
    'must be shorter than 128 KiB: put it into a file instead',
  )
const environmentName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_.-]*$/, 'is no environment variable name')
  .refine(
    name => !name.startsWith('AGIRUNNER_'),
    'is reserved: names that start with AGIRUNNER_ are set by the runtime',
  )
const secretRef = z.strictObject({
  secretRef: z.string().regex(/^(env|file):.+/, 'must be "env:NAME" or "file:/path"'),
})

/** A path below /workspace that stays there: no `..`, no absolute path, no `.git` component. */
const workspacePath = text(4096)
  .min(1)
  .refine(path => !path.startsWith('/'), 'must be relative to /workspace')
  .refine(
    path => path.split('/').every(part => part !== '' && part !== '.' && part !== '..'),
    'must not hold "..", "." or empty parts',
  )
const filePath = workspacePath
  .refine(path => /^(repo|context|output)\/./.test(path), 'must be below repo/, context/ or output/')
  .refine(path => !path.split('/').some(part => /^\.git$/i.test(part)), 'must not be inside .git')
  .refine(
    path => path !== 'context/task.json' && path !== 'context/input.json' && path !== 'context/context.json',
    'is written by the runtime',
  )
const globPath = text(4096)
  .min(1)
  .refine(
    glob => !glob.startsWith('/') && !glob.split('/').includes('..'),
    'must be relative to /workspace, without ".."',
  )

/**
 * An object that may be left out, and then is what it is with all of its keys left out. That is known beforehand: most tasks
 * leave most of them out, and to find it out anew took half of the time that a task takes to be read.
 */
function orDefaults<S extends z.ZodObject>(schema: S) {
  const defaults = schema.parse({})
  const make = () => copyOf(defaults) as z.core.util.NoUndefined<z.output<S>>
  // For the JSON Schema, which shows what may be sent.
  return schema.default(make).meta({ default: {} })
}

/** Of JSON values. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf)
  if (!isRecord(value)) return value
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) copy[key] = copyOf(value[key])
  return copy
}

const gitUrl = text(2048).refine(isHttpUrl, 'must be an http or https address').refine(hasNoUserInfo, {
  message: 'must not hold a user name or password: use source.credentials with a secretRef',
})

function isHttpUrl(value: string): boolean {
  return URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)
}

function hasNoUserInfo(value: string): boolean {
  if (!URL.canParse(value)) return true
  const url = new URL(value)
  return url.username === '' && url.password === ''
}

const sha = z.string().regex(/^[0-9a-f]{40}$/, 'must be a full commit id: 40 lower-case hex digits')

const GitRemoteSchema = z.strictObject({
  type: z.literal('git_remote'),
  url: gitUrl,
  ref: text(1024).min(1).nullable().default(null),
  commit: sha.nullable().default(null),
  depth: z.int().min(0).max(1_000_000).default(1),
  credentials: z
    .strictObject({ username: text(1024).default('x-access-token'), password: secretRef })
    .nullable()
    .default(null),
})
const EmptySchema = z.strictObject({ type: z.literal('empty') })
const HostDirectorySchema = z.strictObject({
  type: z.literal('host_directory'),
  path: text(4096).startsWith('/', 'must be absolute'),
  readOnly: z.boolean().default(false),
})
const ArtifactsSourceSchema = z.strictObject({
  type: z.literal('workspace_artifacts'),
  artifacts: z
    .array(z.strictObject({ taskId: z.string().regex(TASK_ID), path: workspacePath, to: filePath }))
    .min(1)
    .max(1000),
})

const FileSchema = z
  .strictObject({
    path: filePath,
    text: z.string().optional(),
    base64: z.base64().optional(),
    mode: z
      .string()
      .regex(/^0?[0-7]{3}$/, 'must be an octal mode such as "0644"')
      .default('0644'),
  })
  .refine(
    file => (file.text === undefined) !== (file.base64 === undefined),
    'needs exactly one of text and base64',
  )

const WorkspaceSchema = z.strictObject({
  source: z
    .discriminatedUnion('type', [GitRemoteSchema, EmptySchema, HostDirectorySchema, ArtifactsSourceSchema])
    .prefault({ type: 'empty' }),
  identity: orDefaults(
    z.strictObject({
      name: text(256)
        .min(1)
        .regex(/^[^<>\n]*$/, 'must not hold <, > or a newline')
        .default('Agent'),
      email: text(256)
        .min(1)
        .regex(/^[^<>\n]*$/, 'must not hold <, > or a newline')
        .default('agent@example.com'),
    }),
  ),
  files: z.array(FileSchema).max(1000).default([]),
})

const host = z
  .string()
  .refine(
    text => parseAllowedHost(text) !== null,
    'must be "host", "host:port", "*.domain", "*.domain:port" or an IP address, IPv6 in brackets',
  )
const NetworkSchema = z.discriminatedUnion('mode', [
  z.strictObject({ mode: z.literal('none') }),
  z.strictObject({ mode: z.literal('open') }),
  z.strictObject({ mode: z.literal('allowlist'), hosts: z.array(host).min(1).max(200) }),
])

const commandSchema = z
  .array(argument)
  .min(1)
  .max(4096)
  .refine(command => command[0] !== '', 'must name a program')
const scriptSchema = argument.min(1)

const BootstrapSchema = z.union([scriptSchema, commandSchema])

const EnvironmentSchema = z.strictObject({
  image: text(512).min(1).regex(/^\S+$/, 'must not hold white space').default(DEFAULT_IMAGE),
  pullPolicy: z.enum(['always', 'if_not_present', 'never']).default('if_not_present'),
  registryCredentials: z
    .strictObject({ username: text(1024), password: secretRef })
    .nullable()
    .default(null),
  profile: z.enum(['user', 'root']).default('user'),
  resources: orDefaults(
    z.strictObject({
      cpu: z.number().min(0.01).max(1024).default(2),
      memory: size.refine(bytes => bytes >= 6 * 1024 ** 2, 'must be at least 6m').prefault('2Gi'),
      pids: z.int().min(4).max(4_194_304).default(256),
      disk: size.refine(bytes => bytes >= 1024 ** 2, 'must be at least 1m').prefault('2Gi'),
      tmp: atLeastPage.prefault('256m'),
      shm: atLeastPage.prefault('64m'),
    }),
  ),
  network: NetworkSchema.prefault({ mode: 'none' }),
  env: z.record(environmentName, argument).default({}),
  secrets: z
    .record(environmentName, secretRef.extend({ as: z.enum(['file', 'env', 'both']).default('file') }))
    .default({}),
  bootstrap: z.array(BootstrapSchema).max(100).default([]),
  runtime: z
    .string()
    .regex(/^[A-Za-z0-9._-]+$/)
    .nullable()
    .default(null),
})

const StepSchema = z
  .strictObject({
    name: text(128)
      .min(1)
      .regex(/^[^\p{Cc}]*$/u, 'must not hold control characters'),
    script: scriptSchema.optional(),
    command: commandSchema.optional(),
  })
  .refine(
    step => (step.script === undefined) !== (step.command === undefined),
    'needs exactly one of script and command',
  )

const RunSchema = z
  .strictObject({
    script: scriptSchema.optional(),
    command: commandSchema.optional(),
    steps: z.array(StepSchema).min(1).max(100).optional(),
  })
  .refine(
    run => [run.script, run.command, run.steps].filter(part => part !== undefined).length === 1,
    'needs exactly one of script, command and steps',
  )

const LimitsSchema = z.strictObject({
  timeout: seconds.default(1800),
  idleTimeout: seconds.nullable().default(null),
  grace: z.number().min(0).max(600).default(10),
  queue: seconds.nullable().default(null),
  logBytes: size.prefault('64Mi'),
  outputBytes: size.prefault('256Mi'),
})

const PushSchema = z.strictObject({
  branch: text(1024).refine(isBranchName, 'must be the name of a branch, without "refs/heads/"'),
  message: text(64 * 1024)
    .regex(/\S/, 'must say something')
    .optional(),
  commits: z.enum(['squash', 'keep']).default('squash'),
  force: z.boolean().default(false),
})

const CaptureSchema = z.strictObject({
  changes: z.enum(['none', 'patch', 'commit']).default('patch'),
  artifacts: z.array(globPath).max(1000).default([]),
  outputSchema: z.record(z.string(), z.unknown()).nullable().default(null),
  retention: z
    .string()
    .regex(/^(ephemeral|forever|days:[1-9]\d{0,3})$/, 'must be "ephemeral", "days:N" or "forever"')
    .default('days:7'),
  push: PushSchema.nullable().default(null),
})

const RetrySchema = z.strictObject({
  maxAttempts: z.int().min(1).max(20).default(1),
  backoff: orDefaults(
    z.strictObject({
      type: z.enum(['exponential', 'fixed']).default('exponential'),
      delay: z.number().min(0).max(3600).default(2),
    }),
  ),
  on: z
    .array(z.enum([...ORIGINS, ...FAILURE_CODES]))
    .max(50)
    .default(['infrastructure']),
})

const TraceparentSchema = z
  .string()
  .regex(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/, 'must be a W3C traceparent')

/** The task as the platform sends it; parsing fills in every default and turns sizes into bytes. */
export const TaskSchema = z.strictObject({
  version: z.literal(1).default(1),
  taskId: z
    .string()
    .regex(TASK_ID, 'must start with a letter and hold at most 64 letters, digits, "_" and "-"'),
  tenantId: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'must be at most 64 letters, digits, "_", "." and "-"')
    .default(DEFAULT_TENANT),
  labels: z.record(z.string().max(128), text(1024)).default({}),
  priority: z.enum(['critical', 'high', 'normal', 'low']).default('normal'),
  notBefore: z.iso.datetime({ offset: true }).nullable().default(null),
  traceparent: TraceparentSchema.nullable().default(null),
  workspace: orDefaults(WorkspaceSchema),
  environment: orDefaults(EnvironmentSchema),
  run: RunSchema,
  input: z.json().default(null),
  context: z.json().default(null),
  limits: orDefaults(LimitsSchema),
  capture: orDefaults(CaptureSchema),
  retry: orDefaults(RetrySchema),
})
/** A task with every default in place: sizes in bytes, durations in seconds. */
export type Task = z.output<typeof TaskSchema>
/** A task as a caller writes it. */
export type TaskInput = z.input<typeof TaskSchema>
export type GitRemoteSource = z.output<typeof GitRemoteSchema>
export type HostDirectorySource = z.output<typeof HostDirectorySchema>
export type ArtifactsSource = z.output<typeof ArtifactsSourceSchema>
export type SecretRef = z.output<typeof secretRef>

/**
 * Reads a task strictly. Unknown keys, dangerous keys at any depth and payloads over 1 MiB are problems like any
 * other; all of them are reported at once.
 *
 * @param input the task as an object or as JSON text
 * @throws SpecError with one line per problem
 */
export function parseTask(input: unknown): Task {
  const raw = typeof input === 'string' ? parseJson(input) : input
  const shape = checkShape(raw)
  if (shape.length > 0) throw new SpecError(shape)
  const parsed = TaskSchema.safeParse(expandShorthands(raw))
  const problems = parsed.success ? [] : parsed.error.issues.flatMap(describe)
  if (parsed.success) problems.push(...checkTogether(parsed.data))
  if (problems.length > 0) throw new SpecError(problems)
  return parsed.data as Task
}

function parseJson(input: string): unknown {
  if (Buffer.byteLength(input) > MAX_TASK_BYTES) throw new SpecError(['the task is larger than 1 MiB'])
  try {
    return JSON.parse(input)
  } catch (error) {
    throw new SpecError([`the task is no JSON: ${(error as Error).message}`])
  }
}

/** `"network":"open"` stands for `{"mode":"open"}`, and a source with a url for a git remote. */
function expandShorthands(raw: unknown): unknown {
  if (!isRecord(raw)) return raw
  const task: Record<string, unknown> = { ...raw }
  if (
    isRecord(task.workspace) &&
    isRecord(task.workspace.source) &&
    task.workspace.source.type === undefined
  ) {
    const source =
      'url' in task.workspace.source
        ? { type: 'git_remote', ...task.workspace.source }
        : task.workspace.source
    task.workspace = { ...task.workspace, source }
  }
  if (isRecord(task.environment) && typeof task.environment.network === 'string') {
    task.environment = { ...task.environment, network: { mode: task.environment.network } }
  }
  return task
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function describe(issue: z.core.$ZodIssue): string[] {
  const at = issue.path.map(String).join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => {
      const near = nearest(key, knownKeys())
      return `${at ? `${at}.` : ''}${key}: unknown key${near ? `; did you mean "${near}"?` : ''}`
    })
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const closest = issue.errors.toSorted((a, b) => a.length - b.length)[0]
    if (closest && closest.length > 0 && issue.errors.length > 1 && closest[0]?.code !== 'invalid_type') {
      return closest.flatMap(inner =>
        describe({ ...inner, path: [...issue.path, ...inner.path] } as z.core.$ZodIssue),
      )
    }
  }
  return [`${at || 'task'}: ${issue.message}`]
}

/** What a shell can export. */
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

/** Rules that need more than one key. */
function checkTogether(task: Task): string[] {
  const problems: string[] = []
  const { push } = task.capture
  if (push && (task.workspace.source.type !== 'git_remote' || !task.workspace.source.credentials)) {
    problems.push('capture.push: needs workspace.source to be a git_remote with credentials')
  }
  if (push && task.capture.changes === 'none')
    problems.push('capture.push: needs capture.changes to be "patch" or "commit"')
  const { source, files } = task.workspace
  if (source.type === 'host_directory' && source.readOnly) {
    for (const { path } of files.filter(file => file.path.startsWith('repo/')))
      problems.push(`workspace.files: can't write "${path}", because workspace.source is readOnly`)
  }
  for (const [name, { as }] of Object.entries(task.environment.secrets)) {
    if (as === 'file') continue
    if (!VARIABLE.test(name))
      problems.push(`environment.secrets.${name}: no name of a variable; use "as": "file"`)
    if (name in task.environment.env) problems.push(`environment.secrets.${name}: environment.env has it too`)
  }
  const names = task.run.steps?.map(step => step.name) ?? []
  for (const name of new Set(names.filter((step, index) => names.indexOf(step) !== index))) {
    problems.push(`run.steps: the name "${name}" is used twice`)
  }
  for (const [index] of task.environment.bootstrap.entries()) {
    const name = bootstrapStepName(index)
    if (names.includes(name)) problems.push(`run.steps: "${name}" is what environment.bootstrap is called`)
  }
  return problems
}

/** The `step` of log entries that command `index` of `environment.bootstrap`, counted from 0, has printed. */
export function bootstrapStepName(index: number): string {
  return `bootstrap ${index + 1}`
}

let keys: readonly string[] | null = null

/** Every key that a task can hold, for the hint on a mistyped one. */
function knownKeys(): readonly string[] {
  keys ??= collectKeys(z.toJSONSchema(TaskSchema, { io: 'input', unrepresentable: 'any' }))
  return keys
}

function collectKeys(schema: unknown, into = new Set<string>()): string[] {
  if (Array.isArray(schema)) for (const part of schema) collectKeys(part, into)
  else if (isRecord(schema)) {
    if (isRecord(schema.properties)) for (const key of Object.keys(schema.properties)) into.add(key)
    for (const part of Object.values(schema)) collectKeys(part, into)
  }
  return [...into]
}

/**
 * What makes two submissions of one taskId the same: the SHA-256 of the JSON with its keys sorted, as it was sent.
 */
export function hashTask(input: unknown): string {
  return createHash('sha256').update(sortedJson(input)).digest('hex')
}

/** Of a JSON value; its text has been hashed since the first version, so it must stay what it is to the byte. */
function sortedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sortedJson).join(',')}]`
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null'
  const pairs: string[] = []
  for (const key of sortedKeys(value))
    if (value[key] !== undefined) pairs.push(`${JSON.stringify(key)}:${sortedJson(value[key])}`)
  return `{${pairs.join(',')}}`
}

/** Numbers come first and in their own order, as JavaScript has them. */
function sortedKeys(value: Readonly<Record<string, unknown>>): string[] {
  const keys = Object.keys(value)
  const names = keys.findIndex(key => !isIndex(key))
  if (names <= 0) return names === 0 ? keys.sort() : keys
  return [...keys.slice(0, names), ...keys.slice(names).sort()]
}

function isIndex(key: string): boolean {
  return /^(0|[1-9]\d*)$/.test(key) && Number(key) < 2 ** 32 - 1
}

/** Names a task in a message even when it does not parse. */
export function nameOf(input: unknown): string {
  const id = isRecord(input) ? input.taskId : undefined
  return typeof id === 'string' && TASK_ID.test(id) ? id : '(no valid taskId)'
}
