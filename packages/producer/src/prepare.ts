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
export class PreparedTask {
  /** With every default in place; only for what the producer itself needs to know. */
  readonly task: Task
  /** The task as it was sent, as JSON values. */
  readonly sent: unknown
  readonly json: string
  #hash: string | null = null

  constructor(task: Task, sent: unknown, json: string) {
    this.task = task
    this.sent = sent
    this.json = json
  }

  /** Taken when it is first asked for: of many tasks that is while Redis is busy with those before. */
  get hash(): string {
    this.#hash ??= hashTask(this.sent)
    return this.#hash
  }
}

/**
 * Checks a task. An object is taken for the JSON that it becomes, so a key that is
 * `undefined` or a Date is hashed, stored and run alike.
 *
 * @throws SpecError with every problem
 */
export function prepareTask(input: SendableTask): PreparedTask {
  const { sent, json } = toJson(input)
  const task = parseTask(sent)
  checkOutputSchema(task)
  return new PreparedTask(task, sent, json)
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
  const first = new Map<string, PreparedTask>()
  const taken = new Set<string>()
  for (const one of prepared) {
    const { taskId } = one.task
    const other = first.get(taskId)
    if (other === undefined) first.set(taskId, one)
    else if (other.hash !== one.hash) taken.add(taskId)
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
