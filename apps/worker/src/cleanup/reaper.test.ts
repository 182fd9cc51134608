import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { DummyEngine } from '../engine/dummy/dummy-engine.js'
import type { ContainerSpec } from '../engine/engine.js'
import { LABELS, labelsOf, type Owner } from '../engine/labels.js'
import { hostId, isAlive, newWorkerId } from '../support/identity.js'
import { createLog } from '../support/log.js'
import { Reaper } from './reaper.js'
import { sweepArtifacts } from './retention.js'

const me: Owner = { worker: newWorkerId(), host: hostId(), stack: 'stack' }
const DEAD = 'w-1-999999999-dead'
let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'reaper-'))
})
afterEach(() => rmSync(dataDir, { recursive: true }))

async function reap(owners: readonly Owner[], heartbeats: readonly string[] = []): Promise<string[]> {
  const engine = new DummyEngine()
  for (const [index, owner] of owners.entries()) {
    const labels = labelsOf(owner, 'task', `slot${index}`)
    await engine.create({ name: `c${index}`, labels } as unknown as ContainerSpec)
    await engine.createVolume({ name: `v${index}`, labels, options: {} })
  }
  const hasHeartbeat = (id: string) => Promise.resolve(heartbeats.includes(id))
  await new Reaper({ engine, owner: me, dataDir, log: createLog('error', {}), hasHeartbeat }).reap()
  const containers = await engine.containers(`${LABELS.managed}=true`)
  const volumes = await engine.volumes(`${LABELS.managed}=true`)
  expect(volumes.map(({ name }) => name.slice(1))).toEqual(containers.map(({ name }) => name.slice(1)))
  return containers.map(({ name }) => name)
}

describe('the reaper', () => {
  it('spares what a live worker owns, also of another stack', async () => {
    expect(await reap([me, { ...me, stack: 'other' }])).toEqual(['c0', 'c1'])
  })

  it('removes what a dead worker of this host left, of whatever stack', async () => {
    expect(
      await reap([
        { ...me, worker: DEAD },
        { ...me, worker: DEAD, stack: 'other' },
      ]),
    ).toEqual([])
  })

  it('goes by the heartbeat for another host, and leaves other stacks there alone', async () => {
    const elsewhere = { ...me, host: 'elsewhere' }
    const owners = [
      { ...elsewhere, worker: 'w-lives' },
      { ...elsewhere, worker: 'w-gone' },
      { ...elsewhere, worker: 'w-gone', stack: 'other' },
    ]
    expect(await reap(owners, ['w-lives'])).toEqual(['c0', 'c2'])
  })

  it('removes slots of dead workers, and none that is being made', async () => {
    const slot = (name: string, owner: object | null) => {
      mkdirSync(join(dataDir, 'slots', name, 'output'), { recursive: true })
      if (owner) writeFileSync(join(dataDir, 'slots', name, 'owner.json'), JSON.stringify(owner))
    }
    slot('mine', me)
    slot('dead', { ...me, worker: DEAD })
    slot('new', null)
    await reap([])
    expect(['mine', 'dead', 'new'].map(name => existsSync(join(dataDir, 'slots', name)))).toEqual([
      true,
      false,
      true,
    ])
  })
})

describe('a worker id', () => {
  it('tells whether its process lives, and no other of the same pid', () => {
    expect(isAlive(newWorkerId())).toBe(true)
    expect(isAlive(DEAD)).toBe(false)
    expect(isAlive(`w-${process.pid}-12345-x`)).toBe(false)
  })
})

describe('retention', () => {
  it('deletes what has expired and nothing else', async () => {
    const folder = (name: string, expires: string) => {
      mkdirSync(join(dataDir, 'artifacts/t', name, '1'), { recursive: true })
      writeFileSync(join(dataDir, 'artifacts/t', name, '1', 'expires'), expires)
    }
    folder('old', '2020-01-01T00:00:00Z')
    folder('fresh', '2999-01-01T00:00:00Z')
    folder('kept', 'never')
    expect(await sweepArtifacts(dataDir, Date.now())).toBe(1)
    expect(['old', 'fresh', 'kept'].map(name => existsSync(join(dataDir, 'artifacts/t', name)))).toEqual([
      false,
      true,
      true,
    ])
  })
})
