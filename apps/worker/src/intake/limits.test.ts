import { parseTask, type TaskFailure } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { boundByMachine, limitPolicy } from '../support/limit-policy.js'
import { holdToLimits } from './limits.js'

const GIB = 1024 ** 3

function hold(task: object, values: Parameters<typeof limitPolicy>[0] = {}, machine = 16 * GIB) {
  const raw = { taskId: 't', run: { script: 'true' }, ...task }
  return holdToLimits(parseTask(raw), raw, boundByMachine(limitPolicy(values), machine))
}

function refusal(...args: Parameters<typeof hold>): TaskFailure | null {
  try {
    hold(...args)
    return null
  } catch (error) {
    return error as TaskFailure
  }
}

describe('the operator’s limits', () => {
  it('leave the defaults of the contract where nothing is set', () => {
    const { environment, limits } = hold({})
    expect(environment.resources).toMatchObject({ cpu: 2, memory: 2 * GIB, pids: 256 })
    expect(limits).toMatchObject({ timeout: 1800, grace: 10, idleTimeout: null })
  })

  it('stand in for what a task does not name, and only for that', () => {
    const values = { AGIRUNNER_DEFAULT_PIDS: 99, AGIRUNNER_DEFAULT_TIMEOUT: 60, AGIRUNNER_DEFAULT_CPU: 1 }
    const task = { environment: { resources: { pids: 256 } } }
    const { environment, limits } = hold(task, values)
    expect([environment.resources.pids, environment.resources.cpu, limits.timeout]).toEqual([256, 1, 60])
  })

  it('lower a default to the ceiling, the contract’s as well', () => {
    const values = { AGIRUNNER_MAX_MEMORY: GIB, AGIRUNNER_MAX_PIDS: 50, AGIRUNNER_DEFAULT_PIDS: 100 }
    expect(hold({}, values).environment.resources).toMatchObject({ memory: GIB, pids: 50 })
    expect(hold({}, {}, GIB / 2).environment.resources).toMatchObject({ memory: GIB / 2 })
  })

  it('refuse what is above a ceiling, all of it at once, and say what is allowed', () => {
    const task = {
      environment: { resources: { cpu: 8, memory: '4Gi', pids: 10 } },
      limits: { timeout: 7200, logBytes: '2Gi' },
    }
    const values = { AGIRUNNER_MAX_CPU: 4, AGIRUNNER_MAX_MEMORY: GIB, AGIRUNNER_MAX_TIMEOUT: 3600 }
    const failure = refusal(task, values)
    expect(failure).toMatchObject({ code: 'spec.forbidden' })
    expect(failure?.message).toBe(
      'more than the operator allows: environment.resources.cpu is 8, at most 4 (AGIRUNNER_MAX_CPU); ' +
        'environment.resources.memory is 4Gi, at most 1Gi (AGIRUNNER_MAX_MEMORY); ' +
        'limits.timeout is 7200 s, at most 3600 s (AGIRUNNER_MAX_TIMEOUT); ' +
        'limits.logBytes is 2Gi, at most 1Gi (AGIRUNNER_MAX_LOG)',
    )
  })

  it('take exactly the ceiling', () => {
    const task = { environment: { resources: { memory: '1Gi', tmp: '1Gi', shm: '1Gi' } } }
    expect(refusal(task, {}, GIB)).toBeNull()
    expect(refusal({ environment: { resources: { tmp: GIB + 1 } } }, {}, GIB)?.code).toBe('spec.forbidden')
  })

  it('read a task that was sent as text', () => {
    const text = JSON.stringify({ taskId: 't', run: { script: 'true' }, limits: { timeout: 90 } })
    const policy = limitPolicy({ AGIRUNNER_MAX_TIMEOUT: 60, AGIRUNNER_DEFAULT_CPU: 1 })
    expect(() => holdToLimits(parseTask(text), text, policy)).toThrow('limits.timeout is 90 s, at most 60 s')
  })
})
