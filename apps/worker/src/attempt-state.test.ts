import type { NewEvent } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { AttemptState } from './attempt-state.js'

function newState() {
  const events: NewEvent[] = []
  return {
    events,
    state: new AttemptState({ taskId: 't', attempt: 1, queuedMs: 5, emit: event => events.push(event) }),
  }
}

describe('the state of an attempt', () => {
  it('emits each phase once, in order, and times it', () => {
    const { state, events } = newState()
    state.enter('workspace')
    state.enter('run')
    state.progress({ lines: 1 })
    state.finish({ status: 'succeeded' })
    expect(events.map(({ type, phase }) => `${type} ${phase}`)).toEqual([
      'phase.finished queued',
      'attempt.started queued',
      'phase.started workspace',
      'phase.finished workspace',
      'phase.started run',
      'phase.progress run',
      'phase.finished run',
      'attempt.finished run',
    ])
    expect(state.timings()).toMatchObject({
      queuedMs: 5,
      workspaceMs: expect.any(Number),
      imageMs: null,
      captureMs: null,
    })
  })

  it('has one door, and it leads forward', () => {
    const { state } = newState()
    state.enter('create')
    expect(() => state.enter('workspace')).toThrow(/can't follow/)
    expect(() => state.enter('create')).toThrow(/can't follow/)
    state.reach('create')
    expect(state.phase).toBe('create')
  })

  it('knows whether the first command ran', () => {
    const { state } = newState()
    state.enter('start')
    expect(state.ran).toBe(false)
    state.enter('run')
    state.enter('capture')
    expect(state.ran).toBe(true)
  })
})
