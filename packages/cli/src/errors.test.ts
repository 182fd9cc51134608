import { FAILURES, type FailureCode, SpecError, type TaskResult } from '@agirunner/contracts'
import {
  PatchUnavailableError,
  RedisUnavailableError,
  TaskConflictError,
  UnknownTaskError,
} from '@agirunner/producer'
import { resultOf } from '@agirunner/producer/testing'
import { describe, expect, it } from '@jest/globals'
import { exitCodeOf, explain } from './errors.js'

function failed(code: FailureCode, status: TaskResult['status'] = 'failed'): TaskResult {
  const { origin, retryable, hint } = FAILURES[code]
  return resultOf('t-1', { status, failure: { code, origin, retryable, hint, phase: 'run', message: 'why' } })
}

describe('exitCodeOf', () => {
  it.each([
    [0, resultOf('t-1')],
    [1, failed('task.exit_nonzero')],
    [1, failed('task.out_of_memory')],
    [2, failed('workspace.ref_not_found')],
    [2, failed('image.not_found')],
    [2, failed('spec.forbidden')],
    [3, failed('task.canceled', 'canceled')],
    [4, failed('task.timeout', 'timed_out')],
    [5, failed('worker.lost')],
    [5, failed('workspace.remote_unreachable')],
    [5, failed('secret.unavailable')],
    [1, resultOf('t-1', { status: 'failed' })],
  ])('is %i for what happened', (code, result) => {
    expect(exitCodeOf(result)).toBe(code)
  })
})

describe('explain', () => {
  const patch = (reason: PatchUnavailableError['reason']) =>
    new PatchUnavailableError('t-1', reason, 'why', 'hint')
  it.each([
    [2, new SpecError(['run: is missing'])],
    [2, new TaskConflictError(['t-1'])],
    [2, new UnknownTaskError('t-1', 'q')],
    [5, new RedisUnavailableError('redis://h', 'refused')],
    [6, patch('unfinished')],
    [2, patch('not_captured')],
    [5, patch('elsewhere')],
    [5, new Error('anything else')],
  ])('exits with %i', (exitCode, error) => {
    expect(explain(error).exitCode).toBe(exitCode)
  })

  it('lists every problem of a task', () => {
    const { message } = explain(new SpecError(['a: wrong', 'b: unknown key']))
    expect(message).toMatch(
      /^the task can't be accepted; it has 2 problems.*; correct it.*\n {2}- a: wrong\n {2}- b: unknown key$/,
    )
  })
})
