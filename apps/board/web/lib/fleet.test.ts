import type { LiveContainer } from '@agirunner/contracts'
import { describe, expect, test } from '@jest/globals'
import { arranged, FADE_MS, fleetAfter, labelText, SAMPLES, type View, withoutGone } from './fleet.js'

const container = (id: string, more: Partial<LiveContainer> = {}): LiveContainer => ({
  id,
  name: id,
  kind: 'task',
  status: 'running',
  taskId: `t-${id}`,
  attempt: 1,
  tenantId: 'acme',
  labels: {},
  image: 'debian-base',
  imageDigest: null,
  distro: null,
  cpu: { used: 1, limit: 2 },
  memory: { used: 100, limit: null },
  pids: { used: 1, limit: null },
  network: 'none',
  startedAt: null,
  lastOutput: null,
  worker: 'w',
  ...more,
})

describe('a fleet', () => {
  test('keeps the last samples of each', () => {
    let fleet = fleetAfter(new Map(), [container('a', { cpu: { used: 0, limit: 2 } })], 0)
    for (let sample = 1; sample <= 100; sample += 1)
      fleet = fleetAfter(fleet, [container('a', { cpu: { used: sample, limit: 2 } })], sample)
    const { cpu } = fleet.get('a') ?? { cpu: [] }
    expect(cpu).toHaveLength(SAMPLES)
    expect(cpu.at(-1)).toBe(100)
  })

  test('keeps a row that vanished for as long as it fades', () => {
    const before = fleetAfter(new Map(), [container('a'), container('b')], 0)
    const after = fleetAfter(before, [container('b')], 1000)
    expect(after.get('a')?.goneAt).toBe(1000)
    expect(withoutGone(after, 1000 + FADE_MS - 1)).toBe(after)
    expect([...withoutGone(after, 1000 + FADE_MS).keys()]).toEqual(['b'])
    expect([...fleetAfter(after, [container('b')], 1000 + FADE_MS).keys()]).toEqual(['b'])
  })

  test('takes one back that was only missed', () => {
    const missed = fleetAfter(fleetAfter(new Map(), [container('a')], 0), [], 1)
    expect(fleetAfter(missed, [container('a')], 2).get('a')?.goneAt).toBeNull()
  })
})

describe('rows', () => {
  const fleet = fleetAfter(
    new Map(),
    [
      container('a', { cpu: { used: 2, limit: null }, labels: { role: 'developer' } }),
      container('b', { cpu: { used: null, limit: null }, kind: 'parked', taskId: null }),
      container('c', { cpu: { used: 1, limit: null }, status: 'stopping' }),
    ],
    0,
  )
  const view: View = { text: '', kind: '', status: '', sort: 'cpu', descending: false }
  const ids = (part: Partial<View>) => arranged(fleet, { ...view, ...part }).map(row => row.container.id)

  test('are sorted either way, with what has no value last', () => {
    expect(ids({})).toEqual(['c', 'a', 'b'])
    expect(ids({ descending: true })).toEqual(['a', 'c', 'b'])
  })

  test('are filtered by words, kind and status', () => {
    expect(ids({ text: 'ROLE=dev acme' })).toEqual(['a'])
    expect(ids({ text: 'nothing' })).toEqual([])
    expect(ids({ kind: 'parked' })).toEqual(['b'])
    expect(ids({ status: 'stopping' })).toEqual(['c'])
  })
})

test('labels begin with what says most', () => {
  expect(labelText({ zone: 'x', stage: 'build', role: 'qa', area: 'y' })).toBe(
    'role=qa stage=build area=y zone=x',
  )
})
