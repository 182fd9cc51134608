import { parseTask, TaskFailure, type TaskInput } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import type { CapturedOutputs } from '../capture/capture.js'
import { UNSEEN_DISK } from '../execution/disk-watch.js'
import { parseMarks } from '../execution/marks.js'
import { asTaskFailure, judge, statusOf } from './outcome.js'
import { retryDelay } from './retry.js'

const task = (more: Partial<TaskInput> = {}) => parseTask({ taskId: 't', run: { script: 'true' }, ...more })
const outputs = (
  exit: Partial<CapturedOutputs['exit']>,
  more: Partial<CapturedOutputs> = {},
): CapturedOutputs => ({
  exit: {
    code: 0,
    signal: null,
    killedByOthers: false,
    oomKilled: false,
    pidsExceeded: false,
    cause: 'exited',
    limit: null,
    during: 'run',
    marks: parseMarks('g\n'),
    ...exit,
  },
  steps: [],
  logs: { bytes: 0, lines: 0, truncated: false, uri: null },
  changes: null,
  made: null,
  output: { value: null, failure: null },
  artifacts: [],
  skipped: [],
  overLogCeiling: false,
  disk: UNSEEN_DISK,
  ...more,
})

describe('judge', () => {
  it.each([
    ['success', {}, null],
    ['a non-zero exit', { code: 3 }, 'task.exit_nonzero'],
    ['137 without an OOM is only an exit', { code: 137 }, 'task.exit_nonzero'],
    ['out of memory', { code: 137, oomKilled: true }, 'task.out_of_memory'],
    ['a child killed by OOM under a main process that went well', { code: 0, oomKilled: true }, null],
    ['a deadline, whatever the exit code', { code: 0, cause: 'deadline' }, 'task.timeout'],
    ['a cancel outweighs out of memory', { code: 137, oomKilled: true, cause: 'canceled' }, 'task.canceled'],
    ['too many processes', { code: 2, pidsExceeded: true }, 'task.pids_exhausted'],
    ['too many processes, and it went well', { code: 0, pidsExceeded: true }, null],
    ['memory before processes', { code: 1, pidsExceeded: true, oomKilled: true }, 'task.out_of_memory'],
    ['a signal of others', { code: 137, signal: 'SIGKILL', killedByOthers: true }, 'task.killed'],
    ['idleness', { code: 0, cause: 'idle', signal: 'SIGTERM' }, 'task.idle_timeout'],
    ['a lost container', { code: null, cause: 'lost' }, 'engine.restarted'],
    ['a cancel of one that was lost', { code: null, cause: 'canceled' }, 'task.canceled'],
    ['marks that the task took away', { code: 3, marks: parseMarks('') }, 'task.exit_nonzero'],
    ['a gate that was not passed', { code: 127, marks: parseMarks('') }, 'image.incompatible'],
  ] as const)('%s', (_what, exit, code) => {
    expect(judge(task(), outputs(exit))?.code ?? null).toBe(code)
  })

  it.each([
    ['a full disk and a failure', { code: 1 }, { wasFull: true }, 'task.disk_full'],
    ['a full disk and a success', { code: 0 }, { wasFull: true }, null],
    [
      'out of memory outweighs a full disk',
      { code: 137, oomKilled: true },
      { wasFull: true },
      'task.out_of_memory',
    ],
    ['too much output at the end', { code: 0 }, { over: 'task.output_limit' }, 'task.output_limit'],
    [
      'the limit that it was killed for',
      { code: 137, cause: 'limit', limit: 'task.disk_full' },
      { over: 'task.disk_full' },
      'task.disk_full',
    ],
    ['a deadline outweighs a limit', { cause: 'deadline' }, { over: 'task.output_limit' }, 'task.timeout'],
  ] as const)('%s', (_what, exit, disk, code) => {
    const found = judge(task(), outputs(exit, { disk: { ...UNSEEN_DISK, ...disk } }))
    expect(found?.code ?? null).toBe(code)
  })

  it('puts the log ceiling before the exit, and the output after it', () => {
    const invalid = { value: null, failure: new TaskFailure('task.output_invalid', 'no JSON') } as const
    expect(judge(task(), outputs({ code: 137 }, { overLogCeiling: true }))?.code).toBe('task.log_limit')
    expect(judge(task(), outputs({ code: 0 }, { output: invalid }))?.code).toBe('task.output_invalid')
    expect(judge(task(), outputs({ code: 1 }, { output: invalid }))?.code).toBe('task.exit_nonzero')
  })

  it('names the step that failed', () => {
    const steps = [{ name: 'build', exitCode: 2, durationMs: 1 }]
    expect(judge(task(), outputs({ code: 2 }, { steps }))?.message).toContain('step "build"')
  })
})

describe('statusOf', () => {
  it.each([
    [null, 'succeeded'],
    ['task.timeout', 'timed_out'],
    ['task.canceled', 'canceled'],
    ['worker.lost', 'failed'],
  ] as const)('%s is %s', (code, status) => {
    expect(statusOf(code && new TaskFailure(code, ''))).toBe(status)
  })
})

describe('an error that nobody typed', () => {
  it('is the machinery’s', () => {
    expect(asTaskFailure(new TypeError('x'), 'capture').code).toBe('capture.failed')
    expect(asTaskFailure(new TypeError('x'), 'create').code).toBe('container.create_failed')
  })
})

describe('retryDelay', () => {
  const failure = (
    code: 'workspace.remote_unreachable' | 'worker.lost' | 'task.exit_nonzero' | 'task.canceled',
  ) => new TaskFailure(code, '')

  it('gives an infrastructure failure before the first command two free tries', () => {
    const at = (attempts: number) =>
      retryDelay(task(), {
        failure: failure('workspace.remote_unreachable'),
        ran: false,
        attempts,
        ranAttempts: 0,
      })
    expect([at(1), at(2), at(3)]).toEqual([500, 1000, null])
  })

  it('lets an attempt that ran cost one', () => {
    const lost = { failure: failure('worker.lost'), ran: true, attempts: 1, ranAttempts: 1 }
    expect(retryDelay(task(), lost)).toBeNull()
    expect(retryDelay(task({ retry: { maxAttempts: 2 } }), lost)).toBe(2000)
    expect(
      retryDelay(task({ retry: { maxAttempts: 2 } }), { ...lost, attempts: 2, ranAttempts: 2 }),
    ).toBeNull()
  })

  it('tries what the task asks for, and never a cancel', () => {
    const retry = {
      maxAttempts: 3,
      on: ['task', 'platform'] as ('task' | 'platform')[],
      backoff: { type: 'fixed' as const, delay: 1 },
    }
    const facts = { ran: true, attempts: 1, ranAttempts: 1 }
    expect(retryDelay(task({ retry }), { ...facts, failure: failure('task.exit_nonzero') })).toBe(1000)
    expect(retryDelay(task({ retry }), { ...facts, failure: failure('task.canceled') })).toBeNull()
    expect(retryDelay(task(), { ...facts, failure: failure('task.exit_nonzero') })).toBeNull()
  })
})

describe('a bootstrap', () => {
  const booted = task({ environment: { bootstrap: ['true', ['make', 'x'.repeat(100)]] } })
  const exit = (more: object, marks: string) =>
    outputs({ during: 'bootstrap', marks: parseMarks(marks), ...more })

  it('that failed is told by its command and exit code', () => {
    const marks = 'g\nb 0 0 0 1.00\nx 0 0 1.10\nb 1 0 0 1.10\nx 1 2 1.20\n'
    expect(judge(booted, exit({ code: 2 }, marks))).toMatchObject({
      code: 'environment.bootstrap_failed',
      phase: 'bootstrap',
      message: expect.stringMatching(/^bootstrap 2 \("make x+…"\) ended with exit code 2$/),
    })
  })

  it('that was late is no timeout of the task', () => {
    const late = { code: 143, cause: 'deadline' as const }
    expect(judge(booted, exit(late, 'g\nb 0 0 0 1.00\n'))).toMatchObject({
      code: 'environment.bootstrap_failed',
      message: expect.stringContaining('bootstrap 1 ("true") was not done'),
    })
    expect(judge(booted, outputs({ ...late, during: 'run' }))).toMatchObject({ code: 'task.timeout' })
  })

  it.each([
    ['canceled', { code: 143, cause: 'canceled' as const }, 'task.canceled'],
    ['out of memory', { code: 137, oomKilled: true }, 'task.out_of_memory'],
  ])('that was %s is told as in a run', (_what, how, code) => {
    expect(judge(booted, exit(how, 'g\nb 0 0 0 1.00\n'))).toMatchObject({ code, phase: 'bootstrap' })
  })

  it('whose marks are gone still failed', () => {
    expect(judge(booted, exit({ code: 1 }, ''))).toMatchObject({ code: 'environment.bootstrap_failed' })
  })
})
