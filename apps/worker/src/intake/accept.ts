import { parseTask, SpecError, type Task, TaskFailure, type TaskJobData } from '@agirunner/contracts'
import { Redactor } from '../support/redactor.js'
import type { Secret } from '../support/secret.js'
import type { AcceptedTask } from './accepted-task.js'
import { resolveSecret, type SecretPolicy } from './secrets.js'

/**
 * Reads the task of a job as strictly as the producer did: anybody may write to Redis.
 *
 * @throws TaskFailure `spec.invalid` with every problem
 */
export function parseJob(data: TaskJobData): Task {
  try {
    return parseTask(data.task)
  } catch (error) {
    if (error instanceof SpecError) throw new TaskFailure('spec.invalid', error.message, { cause: error })
    throw error
  }
}

/** A newer platform's task, which only a newer worker may judge. */
export function isNewer(data: TaskJobData): boolean {
  const { task } = data
  return (
    typeof task === 'object' &&
    task !== null &&
    'version' in task &&
    typeof task.version === 'number' &&
    task.version > 1
  )
}

/** Linux takes no longer string into an environment, in bytes; and one with a NUL would end there. */
const MAX_VARIABLE_BYTES = 128 * 1024

function checkVariable(name: string, secret: Secret): void {
  const value = secret.reveal()
  const why = value.includes(0)
    ? 'holds a NUL byte'
    : value.length + name.length + 2 > MAX_VARIABLE_BYTES
      ? 'is longer than 128 KiB'
      : null
  if (why === null) return
  throw new TaskFailure('secret.unavailable', `secret ${name} ${why}, so it can't be a variable`, {
    hint: 'give it to the task as a file',
  })
}

/**
 * Makes an attempt ready to run: secrets read, waiting time checked.
 *
 * @param alsoKnown what is to be masked besides the task's secrets of now
 * @throws TaskFailure `task.expired`, `spec.forbidden`, `secret.unavailable`
 */
export async function accept(
  task: Task,
  begun: { attempt: number; fence: number; createdAt: string; startedAt: string },
  policy: SecretPolicy,
  alsoKnown: readonly { readonly name: string; readonly value: Secret }[] = [],
): Promise<AcceptedTask> {
  const waitedMs =
    Date.parse(begun.startedAt) -
    Math.max(Date.parse(begun.createdAt), Date.parse(task.notBefore ?? begun.createdAt))
  if (begun.attempt === 1 && task.limits.queue !== null && waitedMs > task.limits.queue * 1000) {
    throw new TaskFailure(
      'task.expired',
      `the task waited ${Math.round(waitedMs / 1000)} s, longer than limits.queue`,
    )
  }
  const { source } = task.workspace
  const wanted = source.type === 'git_remote' ? source.credentials : null
  const credentials = wanted && {
    username: wanted.username,
    password: await resolveSecret(wanted.password, policy),
  }
  const registry = task.environment.registryCredentials
  const registryCredentials = registry && {
    username: registry.username,
    password: await resolveSecret(registry.password, policy),
  }
  const secrets = new Map<string, { value: Secret; as: 'file' | 'env' | 'both' }>()
  for (const [name, reference] of Object.entries(task.environment.secrets)) {
    const value = await resolveSecret(reference, policy)
    if (reference.as !== 'file') checkVariable(name, value)
    secrets.set(name, { value, as: reference.as })
  }
  const known = [
    ...(credentials ? [{ name: 'workspace.source.credentials', value: credentials.password }] : []),
    ...(registryCredentials
      ? [{ name: 'environment.registryCredentials', value: registryCredentials.password }]
      : []),
    ...[...secrets].map(([name, { value }]) => ({ name, value })),
    ...alsoKnown,
  ]
  return { task, ...begun, credentials, registryCredentials, secrets, redactor: Redactor.of(known) }
}
