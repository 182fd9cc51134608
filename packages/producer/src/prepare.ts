import {
  compileOutputSchema,
  hashTask,
  nameOf,
  parseTask,
  SpecError,
  type Task,
  type TaskInput,
} from '@agirunner/contracts'
import { TaskConflictError } from './errors.js'

/** A task as a caller writes it: an object, or its JSON text. */
export type SendableTask = TaskInput | Readonly<Record<string, unknown>> | string

/** A task that was checked and can be sent. */
export interface PreparedTask {
  /** With every default in place; only for what the producer itself needs to know. */
  readonly task: Task
  /** The task as it was sent, as JSON values. */
  readonly sent: unknown
  readonly json: string
  readonly hash: string
}

/**
 * Checks a task and takes its fingerprint. An object is taken for the JSON that it becomes, so a key that is
 * `undefined` or a Date is hashed, stored and run alike.
 *
 * @throws SpecError with every problem
 */
export function prepareTask(input: SendableTask): PreparedTask {
  const { sent, json } = toJson(input)
  const task = parseTask(sent)
  checkOutputSchema(task)
  return { task, sent, json, hash: hashTask(sent) }
}

/** A worker could say so only after the task has run. */
function checkOutputSchema({ capture }: Task): void {
  if (capture.outputSchema === null) return
  try {
    compileOutputSchema(capture.outputSchema)
  } catch (error) {
    throw new SpecError([`capture.outputSchema: no JSON Schema: ${(error as Error).message}`])
  }
}

/**
 * Checks all tasks before any is sent.
 *
 * @throws SpecError with every problem of every task, each line starting with the task's place and id
 * @throws TaskConflictError when two of them have the same taskId and other content
 */
export function prepareTasks(inputs: readonly SendableTask[]): PreparedTask[] {
  const problems: string[] = []
  const prepared: PreparedTask[] = []
  for (const [index, input] of inputs.entries()) {
    try {
      prepared.push(prepareTask(input))
    } catch (error) {
      if (!(error instanceof SpecError)) throw error
      const where = `task ${index + 1} of ${inputs.length} (${nameOf(input)})`
      problems.push(...error.problems.map(problem => `${where}: ${problem}`))
    }
  }
  if (problems.length > 0) throw new SpecError(problems)
  refuseTwins(prepared)
  return prepared
}

function refuseTwins(prepared: readonly PreparedTask[]): void {
  const hashes = new Map<string, string>()
  const taken = new Set<string>()
  for (const { task, hash } of prepared) {
    if ((hashes.get(task.taskId) ?? hash) !== hash) taken.add(task.taskId)
    hashes.set(task.taskId, hash)
  }
  if (taken.size > 0)
    throw new TaskConflictError([...taken], 'the tasks hold it twice with different content')
}

function toJson(input: SendableTask): Pick<PreparedTask, 'sent' | 'json'> {
  const text = typeof input === 'string' ? input : stringify(input)
  try {
    const sent: unknown = JSON.parse(text)
    // What a caller wrote may have spaces, and a key twice.
    return { sent, json: typeof input === 'string' ? JSON.stringify(sent) : text }
  } catch (error) {
    throw new SpecError([`the task is no JSON: ${(error as Error).message}`])
  }
}

function stringify(input: unknown): string {
  try {
    // A function or undefined has no JSON at all; null lets the schema say what it wants instead.
    return JSON.stringify(input) ?? 'null'
  } catch (error) {
    throw new SpecError([`the task is no JSON: ${(error as Error).message}`])
  }
}
