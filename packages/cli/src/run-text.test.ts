import type { TaskEvent } from '@agirunner/contracts'
import { resultOf } from '@agirunner/producer/testing'
import { describe, expect, it } from '@jest/globals'
import { showDuration } from './output.js'
import { EventTeller, failureOf, summaryOf } from './run-text.js'

function event(type: TaskEvent['type'], data: TaskEvent['data'] = {}, attempt = 1, atMs = 0): TaskEvent {
  return {
    version: 1,
    taskId: 't-1',
    attempt,
    seq: 1,
    at: new Date(atMs).toISOString(),
    type,
    phase: 'image',
    data,
  }
}

describe('EventTeller', () => {
  it.each([
    ['image 12 ms', event('phase.finished', { durationMs: 12.4 })],
    ['attempt 2 started', event('attempt.started', {}, 2)],
    ['cancel requested: enough', event('cancel.requested', { reason: 'enough' })],
    ['network access denied: evil.example:443', event('egress.denied', { host: 'evil.example', port: 443 })],
    [null, event('phase.started')],
    [null, event('attempt.started')],
  ])('says %p', (text, of) => {
    expect(new EventTeller().tell(of)).toBe(text)
  })

  it('tells progress only of what takes long, and not too often', () => {
    const teller = new EventTeller()
    const progress = { stage: 'fetch', receivedObjects: 12, totalBytes: 1536 }
    const told = [
      event('phase.started', {}, 1, 5000),
      event('phase.progress', progress, 1, 5900),
      event('phase.progress', progress, 1, 6100),
      event('phase.progress', progress, 1, 6200),
      event('phase.progress', { bytes: 2048 }, 1, 7200),
    ].map(one => teller.tell(one))
    expect(told).toEqual([null, null, 'image: fetch, received objects 12, total 1.5Ki', null, 'image: 2Ki'])
  })
})

describe('summaryOf and failureOf', () => {
  it('tell how it ended, how long it took and what changed', () => {
    const file = { path: 'repo/a', from: null, status: 'added', mode: '100644', binary: false } as const
    const nothing = { patch: null, commits: [], commit: null, bundle: null, pushed: null, notes: [] }
    const changes = { files: [file], insertions: 2, deletions: 1, tree: '', ...nothing }
    const [headline, timings, changed] = summaryOf(resultOf('t-1', { changes }))
    expect(headline).toMatch(/^succeeded, exit 0, in \d+ ms, on w-test$/)
    expect(timings).toContain('workspace 12 ms, ')
    expect(timings).not.toContain('bootstrap')
    expect(changed).toBe('1 file changed, 2 insertions(+), 1 deletion(-); `agirunner patch t-1` shows them')
    expect(failureOf(resultOf('t-1'))).toBeNull()
  })

  it('give the message and the hint of a failure', () => {
    const failure = {
      code: 'task.timeout',
      origin: 'task',
      retryable: false,
      phase: 'run',
      message: 'it ran 5 s',
      hint: 'raise it',
    } as const
    expect(failureOf(resultOf('t-1', { status: 'timed_out', failure }))).toBe(
      'task t-1 timed out (task.timeout); it ran 5 s; raise it',
    )
  })
})

describe('showDuration', () => {
  it.each([
    [0.4, '0 ms'],
    [999, '999 ms'],
    [1234, '1.2 s'],
    [90_000, '1 min 30 s'],
    [3_700_000, '1 h 1 min'],
  ])('shows %d as %s', (ms, text) => {
    expect(showDuration(ms)).toBe(text)
  })
})
