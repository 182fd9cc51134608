import { TaskFailure } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { ReleaseStack, sleep, withDeadline } from './lifecycle.js'

describe('a release stack', () => {
  it('gives back last first, all of it, and tells what failed', async () => {
    const order: string[] = []
    const leaks: string[] = []
    const stack = new ReleaseStack(what => leaks.push(what))
    for (const name of ['a', 'b', 'c']) {
      stack.defer(name, async () => {
        order.push(name)
        if (name === 'b') throw new Error('stuck')
      })
    }
    await stack.all()
    await stack.all()
    expect(order).toEqual(['c', 'b', 'a'])
    expect(leaks).toEqual(['b'])
  })
})

describe('withDeadline', () => {
  const options = { ms: 10, code: 'workspace.timeout', what: 'waiting', phase: 'workspace' } as const

  it('rejects with its code even when the work ignores the signal', async () => {
    const forever = withDeadline(options, () => new Promise(() => undefined))
    await expect(forever).rejects.toMatchObject({ code: 'workspace.timeout', phase: 'workspace' })
  })

  it('passes the outer reason on, and a result through', async () => {
    const signal = AbortSignal.abort(new TaskFailure('task.canceled', 'enough'))
    await expect(
      withDeadline({ ...options, ms: 60_000, signal }, inner => sleep(60_000, inner)),
    ).rejects.toMatchObject({
      code: 'task.canceled',
    })
    await expect(withDeadline({ ...options, ms: 60_000 }, async () => 3)).resolves.toBe(3)
  })
})
