import { constants, open } from 'node:fs/promises'
import { join } from 'node:path'

/** The marks file is small; more is the task's own doing. In bytes. */
const MAX_MARKS = 64 * 1024

/** What the marks say. Times are the container's uptime in milliseconds. */
export interface GateMarks {
  readonly passed: boolean
  readonly failure: string | null
  readonly steps: readonly {
    readonly index: number
    readonly stdoutOffset: number
    readonly stderrOffset: number
    readonly startedMs: number
    readonly exitCode: number | null
    readonly durationMs: number | null
  }[]
}

/** Reads marks; a task can write to the file too, so whatever does not fit the form is passed over. */
export function parseMarks(text: string): GateMarks {
  const steps = new Map<number, GateMarks['steps'][number]>()
  let passed = false
  let failure: string | null = null
  for (const line of text.split('\n')) {
    const [mark, ...words] = line.split(/\s+/)
    const numbers = words.map(Number)
    if (mark === 'g') passed = true
    else if (mark === 'f' && !passed) failure = words.join(' ')
    else if (numbers.some(Number.isNaN)) continue
    else if (mark === 'b' && numbers.length === 4) begin(steps, numbers)
    else if (mark === 'x' && numbers.length === 3) end(steps, numbers)
  }
  return { passed, failure, steps: [...steps.values()].toSorted((a, b) => a.index - b.index) }
}

function begin(steps: Map<number, GateMarks['steps'][number]>, numbers: number[]): void {
  const [index = 0, stdoutOffset = 0, stderrOffset = 0, uptime = 0] = numbers
  if (steps.has(index)) return
  steps.set(index, {
    index,
    stdoutOffset,
    stderrOffset,
    startedMs: uptime * 1000,
    exitCode: null,
    durationMs: null,
  })
}

function end(steps: Map<number, GateMarks['steps'][number]>, numbers: number[]): void {
  const [index = 0, exitCode = 0, uptime = 0] = numbers
  const step = steps.get(index)
  if (!step || step.exitCode !== null) return
  steps.set(index, { ...step, exitCode, durationMs: Math.max(0, Math.round(uptime * 1000 - step.startedMs)) })
}

/** Reads the marks in a slot's log folder. What the task put in their place counts as no marks. */
export async function readMarks(folder: string): Promise<GateMarks> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const file = await open(join(folder, 's'), flags).catch(() => null)
  if (!file) return parseMarks('')
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_MARKS), 0, MAX_MARKS, 0)
    return parseMarks(buffer.toString('utf8', 0, bytesRead))
  } catch {
    return parseMarks('')
  } finally {
    await file.close()
  }
}
