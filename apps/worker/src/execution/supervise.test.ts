import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { DummyEngine } from '../engine/dummy/dummy-engine.js'
import type { ContainerSpec } from '../engine/engine.js'
import { Supervisor } from './supervise.js'

let marksFolder: string
beforeEach(() => {
  marksFolder = mkdtempSync(join(tmpdir(), 'supervise-'))
})
afterEach(() => rmSync(marksFolder, { recursive: true }))

async function supervise(limits: { timeoutMs: number; graceMs: number }, engine = new DummyEngine()) {
  const id = await engine.create({ name: 'x', labels: {} } as unknown as ContainerSpec)
  await engine.start(id)
  const container = engine.containersById.get(id)
  if (!container) throw new Error('the dummy lost its container')
  return { engine, container, supervisor: new Supervisor({ engine, id, marksFolder, ...limits }) }
}

describe('a supervisor', () => {
  it('tells an exit of its own', async () => {
    const { container, supervisor } = await supervise({ timeoutMs: 60_000, graceMs: 10 })
    container.end({ exitCode: 4 })
    expect(await supervisor.exit).toMatchObject({ code: 4, signal: null, cause: 'exited', oomKilled: false })
    expect(container.signals).toEqual([])
  })

  it('tells one that the engine lost, and does not take its status for the task’s', async () => {
    const { container, supervisor } = await supervise({ timeoutMs: 60_000, graceMs: 10 })
    container.end({ exitCode: 0, lost: true })
    expect(await supervisor.exit).toMatchObject({ code: null, signal: null, cause: 'lost' })
  })

  it.each([
    ['SIGKILL', 137, 'SIGKILL', true],
    ['SIGTERM', 137, null, false],
    ['SIGTERM', 0, null, false],
  ])('believes that others ended it by %s only when the status is %d', async (sent, code, signal, others) => {
    const { container, supervisor } = await supervise({ timeoutMs: 60_000, graceMs: 10 })
    container.signals.push(sent)
    container.end({ exitCode: code })
    const told = { code, signal, killedByOthers: others, cause: 'exited' }
    expect(await supervisor.exit).toMatchObject(told)
  })

  it('ends a container at its deadline, gently', async () => {
    const { container, supervisor } = await supervise({ timeoutMs: 20, graceMs: 60_000 })
    expect(await supervisor.exit).toMatchObject({ code: 143, signal: 'SIGTERM', cause: 'deadline' })
    expect(container.signals).toEqual(['SIGTERM'])
  })

  it('kills one that ignores SIGTERM after the grace', async () => {
    const engine = new DummyEngine()
    engine.onSignal = (container, signal) => signal === 'SIGKILL' && container.end({ exitCode: 137 })
    const { container, supervisor } = await supervise({ timeoutMs: 20, graceMs: 20 }, engine)
    expect(await supervisor.exit).toMatchObject({ code: 137, signal: 'SIGKILL', cause: 'deadline' })
    expect(container.signals).toEqual(['SIGTERM', 'SIGKILL'])
  })

  it('lets a cancel outweigh a deadline, whichever came first', async () => {
    const engine = new DummyEngine()
    engine.onSignal = (container, signal) => signal === 'SIGKILL' && container.end({ exitCode: 137 })
    const { supervisor } = await supervise({ timeoutMs: 60_000, graceMs: 20 }, engine)
    supervisor.stop('deadline')
    supervisor.stop('canceled')
    supervisor.stop('limit')
    expect(await supervisor.exit).toMatchObject({ cause: 'canceled' })
  })

  it('gives no grace to one that is over a limit', async () => {
    const { container, supervisor } = await supervise({ timeoutMs: 60_000, graceMs: 60_000 })
    supervisor.stop('limit')
    expect(await supervisor.exit).toMatchObject({ cause: 'limit', signal: 'SIGKILL' })
    expect(container.signals).toEqual(['SIGKILL'])
  })

  it('keeps killing while the engine does not answer', async () => {
    const engine = new DummyEngine()
    let refused = 0
    const kill = engine.kill.bind(engine)
    engine.kill = (id, signal) => {
      refused += 1
      return refused <= 2 ? Promise.reject(new Error('no engine')) : kill(id, signal)
    }
    const { supervisor } = await supervise({ timeoutMs: 10, graceMs: 10 }, engine)
    expect(await supervisor.exit).toMatchObject({ cause: 'deadline', signal: 'SIGKILL' })
  })
})
