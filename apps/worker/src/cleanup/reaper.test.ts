import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { DummyEngine } from '../engine/dummy/dummy-engine.js'
import type { ContainerSpec } from '../engine/engine.js'
import { keptName, LABELS, labelsOf, type Owner } from '../engine/labels.js'
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
  await new Reaper({
    engine,
    owner: me,
    groups: null,
    dataDir,
    log: createLog('error', {}),
    hasHeartbeat,
  }).reap()
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

  describe('of a container whose worker died, and which another can go on with', () => {
    const other = () => join(dataDir, 'other')
    const claimed = async (folder: string, slotOwner: Owner, claim: boolean) => {
      const slot = '00000000-0000-4000-8000-000000000001'
      const root = join(folder, 'slots', slot)
      mkdirSync(root, { recursive: true })
      writeFileSync(join(root, 'owner.json'), JSON.stringify(slotOwner))
      if (claim) writeFileSync(join(root, 'claim.json'), JSON.stringify({ version: 1 }))
      const engine = new DummyEngine()
      const labels = labelsOf({ ...me, worker: DEAD, data: folder }, 'task', slot)
      await engine.create({ name: 'c', labels } as unknown as ContainerSpec)
      await engine.createVolume({ name: 'v', labels, options: {} })
      const log = createLog('error', {})
      const hasHeartbeat = () => Promise.resolve(false)
      const reaper = new Reaper({ engine, owner: me, groups: null, dataDir, log, hasHeartbeat })
      const left = async () => {
        await reaper.reap()
        return [
          ...(await engine.containers(`${LABELS.managed}=true`)).map(one => one.name),
          ...(await engine.volumes(`${LABELS.managed}=true`)).map(one => one.name),
          ...(existsSync(root) ? ['slot'] : []),
        ]
      }
      return { left }
    }
    const dead = { ...me, worker: DEAD }

    it('leaves everything to who has taken over, wherever that one has its folder', async () => {
      expect(await (await claimed(dataDir, me, true)).left()).toEqual(['c', 'v', 'slot'])
      expect(await (await claimed(other(), me, true)).left()).toEqual(['c', 'v', 'slot'])
    })

    it('waits while nobody has, and the claim is not dropped', async () => {
      expect(await (await claimed(dataDir, dead, true)).left()).toEqual(['c', 'v', 'slot'])
    })

    it('removes everything once the claim is dropped', async () => {
      expect(await (await claimed(dataDir, dead, false)).left()).toEqual([])
    })

    it('waits a minute for a worker of another queue on the same folder, and no longer', async () => {
      const { left } = await claimed(dataDir, { ...dead, stack: 'other' }, true)
      expect(await left()).toEqual(['c', 'v', 'slot'])
      const now = Date.now()
      const later = jest.spyOn(Date, 'now').mockReturnValue(now + 61_000)
      expect(await left().finally(() => later.mockRestore())).toEqual([])
    })

    it('waits a minute for a worker of another folder, and no longer', async () => {
      const { left } = await claimed(other(), dead, true)
      expect(await left()).toEqual(['c', 'v', 'slot'])
      const now = Date.now()
      const later = jest.spyOn(Date, 'now').mockReturnValue(now + 61_000)
      // The slot is below the other's folder, and its to remove.
      expect(await left().finally(() => later.mockRestore())).toEqual(['slot'])
    })
  })

  describe('of a container that is kept', () => {
    const named = async (name: string, owner: Owner) => {
      const engine = new DummyEngine()
      const labels = labelsOf(owner, 'task', 'slot')
      await engine.create({ name, labels } as unknown as ContainerSpec)
      await engine.createVolume({ name: 'v', labels, options: {} })
      const hasHeartbeat = () => Promise.resolve(false)
      const reaper = new Reaper({
        engine,
        owner: me,
        groups: null,
        dataDir,
        log: createLog('error', {}),
        hasHeartbeat,
      })
      mkdirSync(join(dataDir, 'slots/slot'), { recursive: true })
      writeFileSync(join(dataDir, 'slots/slot/owner.json'), JSON.stringify(owner))
      const left = async () => [
        ...(await engine.containers(`${LABELS.managed}=true`)).map(one => one.name),
        ...(await engine.volumes(`${LABELS.managed}=true`)).map(one => one.name),
        ...(existsSync(join(dataDir, 'slots/slot')) ? ['slot'] : []),
      ]
      return { reaper, engine, left }
    }

    it.each([me, { ...me, worker: DEAD }, { ...me, worker: DEAD, stack: 'other' }])(
      'leaves everything until its time is over, whoever keeps it',
      async owner => {
        const later = keptName('agirunner-t-1', Date.now() + 60_000)
        const { reaper, left } = await named(later, owner)
        await reaper.reap()
        expect(await left()).toEqual([later, 'v', 'slot'])
      },
    )

    it('removes everything then, also its own', async () => {
      const { reaper, left } = await named(keptName('agirunner-t-1', Date.now() - 2000), me)
      await reaper.reap()
      expect(await left()).toEqual([])
    })

    it('removes the rest when somebody has removed the container', async () => {
      const { reaper, engine, left } = await named(keptName('agirunner-t-1', Date.now() + 60_000), me)
      reaper.takeOver('slot')
      await reaper.reap()
      expect(await left()).toHaveLength(3)
      for (const { id } of await engine.containers(`${LABELS.managed}=true`)) await engine.remove(id)
      await reaper.reap()
      expect(await left()).toEqual([])
    })
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
