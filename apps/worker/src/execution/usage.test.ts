import { describe, expect, it } from '@jest/globals'
import { IdleWatch } from './idle.js'
import { parseTable } from './network-counters.js'
import type { Activity } from './usage.js'

describe('the table of interfaces', () => {
  const HEAD =
    'Inter-|   Receive                            |  Transmit\n face |bytes    packets errs drop|bytes    packets'
  const LO =
    '    lo:    5000      10    0    0    0     0          0         0     5000      10    0    0    0     0       0          0'
  const ETH = '  eth0: 1234567     99    0    0    0     0          0         0    89 7 0 0 0 0 0 0'

  it('is summed without the loopback', () => {
    expect(parseTable([HEAD, LO, ETH, ETH.replace('eth0', 'eth1')].join('\n'))).toEqual({
      rxBytes: 2 * 1234567,
      txBytes: 2 * 89,
    })
  })

  it('says nothing once the engine took the interfaces away', () => {
    expect(parseTable([HEAD, LO].join('\n'))).toBeNull()
  })
})

const NOTHING: Activity = { cpuNs: 0, ioOperations: 0, networkBytes: 0, logBytes: 0 }

/** Looks every 100 ms at what `at` says for that time. @returns when it was idle, in milliseconds; null within 20 s never */
function idleAt(idleMs: number, at: (ms: number) => Partial<Activity>): number | null {
  let now = 0
  let idle: number | null = null
  const watch = new IdleWatch(idleMs, () => (idle ??= now), 0)
  for (; now <= 20_000 && idle === null; now += 100) watch.look({ ...NOTHING, ...at(now) }, now)
  return idle
}

describe('an idle task', () => {
  it('is one that does nothing for the time', () => {
    expect(idleAt(5000, () => ({}))).toBe(5000)
  })

  it.each<[string, (ms: number) => Partial<Activity>]>([
    ['spins', ms => ({ cpuNs: ms * 1e6 })],
    ['uses two hundredths of a core', ms => ({ cpuNs: ms * 2e4 })],
    ['reads a disk', ms => ({ ioOperations: Math.floor(ms / 1000) })],
    ['downloads slowly', ms => ({ networkBytes: ms })],
    ['prints a byte now and then', ms => ({ logBytes: Math.floor(ms / 4000) })],
    ['can not be measured', () => ({ cpuNs: null })],
  ])('is not one that %s', (_what, at) => {
    expect(idleAt(5000, at)).toBeNull()
  })

  it.each<[string, (ms: number) => Partial<Activity>]>([
    ['has timers that do nothing', ms => ({ cpuNs: ms * 5e3 })],
    ['keeps a connection alive', ms => ({ networkBytes: Math.floor(ms / 1000) * 100 })],
    ['has no network whose bytes could be known', () => ({ networkBytes: null, ioOperations: null })],
  ])('is one that only %s', (_what, at) => {
    expect(idleAt(5000, at)).toBe(5000)
  })

  it('is so from its last work on', () => {
    const worked = idleAt(5000, ms => ({ cpuNs: Math.min(ms, 3000) * 1e6 }))
    expect(worked).toBeGreaterThanOrEqual(8000)
    expect(worked).toBeLessThanOrEqual(9100)
    expect(idleAt(500, ms => ({ logBytes: Math.min(ms, 3000) }))).toBe(3500)
  })
})
