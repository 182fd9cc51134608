import { constants, lstat, open } from 'node:fs/promises'
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
  /** Whether output was lost on its way from the engine. */
  readonly lost: boolean
}

type StepMark = GateMarks['steps'][number]

/** What no mark has told yet: a stream in which the step has not begun. */
const NOT_YET = Number.POSITIVE_INFINITY

/**
 * Reads marks; a task can write to the file too, so whatever does not fit the form is passed over. What a gate writes is
 * told in gate.ts; where the streams are all that the worker sees, it adds itself: `o I O`, `e I E` step I begins in that
 * stream after so many bytes · `l` output was lost.
 */
export function parseMarks(text: string): GateMarks {
  const steps = new Map<number, StepMark>()
  let passed = false
  let lost = false
  let failure: string | null = null
  for (const line of text.split('\n')) {
    const [mark = '', ...words] = line.split(/\s+/)
    if (mark === 'g') passed = true
    else if (mark === 'l') lost = true
    else if (mark === 'f' && !passed) failure = words.join(' ')
    else takeStep(steps, mark, words.map(Number))
  }
  return { passed, failure, steps: [...steps.values()].toSorted((a, b) => a.index - b.index), lost }
}

/** The words of each mark, and what it tells of its step; the first to tell a thing counts. */
const STEP_MARKS: Readonly<
  Record<string, { words: number; tell: (step: StepMark, words: number[]) => Partial<StepMark> }>
> = {
  b: {
    words: 4,
    tell: (step, [, stdout = 0, stderr = 0, uptime = 0]) => ({
      ...offsetOf(step, 'stdoutOffset', stdout),
      ...offsetOf(step, 'stderrOffset', stderr),
      ...startOf(step, uptime),
    }),
  },
  t: { words: 2, tell: (step, [, uptime = 0]) => startOf(step, uptime) },
  o: { words: 2, tell: (step, [, offset = 0]) => offsetOf(step, 'stdoutOffset', offset) },
  e: { words: 2, tell: (step, [, offset = 0]) => offsetOf(step, 'stderrOffset', offset) },
  x: { words: 3, tell: (step, [, exitCode = 0, uptime = 0]) => endOf(step, exitCode, uptime) },
}

function takeStep(steps: Map<number, StepMark>, mark: string, words: number[]): void {
  const known = STEP_MARKS[mark]
  const [index = 0] = words
  if (known?.words !== words.length || words.some(Number.isNaN)) return
  if (mark === 'x' && !steps.has(index)) return
  const step = steps.get(index) ?? newStep(index)
  steps.set(index, { ...step, ...known.tell(step, words) })
}

function newStep(index: number): StepMark {
  const nothing = { exitCode: null, durationMs: null }
  return { index, stdoutOffset: NOT_YET, stderrOffset: NOT_YET, startedMs: NOT_YET, ...nothing }
}

function offsetOf(step: StepMark, key: 'stdoutOffset' | 'stderrOffset', offset: number): Partial<StepMark> {
  return step[key] === NOT_YET ? { [key]: offset } : {}
}

function startOf(step: StepMark, uptime: number): Partial<StepMark> {
  return step.startedMs === NOT_YET ? { startedMs: uptime * 1000 } : {}
}

function endOf(step: StepMark, exitCode: number, uptime: number): Partial<StepMark> {
  if (step.exitCode !== null) return {}
  const durationMs = Math.max(0, Math.round(uptime * 1000 - step.startedMs))
  return { exitCode, durationMs: step.startedMs === NOT_YET ? null : durationMs }
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

/** How long the marks are by now: they only grow. -1 where there are none. */
export async function sizeOfMarks(folder: string): Promise<number> {
  const found = await lstat(join(folder, 's')).catch(() => null)
  return found?.size ?? -1
}
