import { describe, expect, it } from '@jest/globals'
import { tryOut } from './contender.js'
import { measure } from './measure.js'
import { roundsOf } from './rounds.js'
import { quantile, slope, summarize } from './statistics.js'
import { renderTable } from './table.js'
import { isMet, renderTargets } from './target.js'
import { mostSeconds } from './together.js'

const sample = (firstByteMs: number, resultMs = firstByteMs * 2) => ({ firstByteMs, resultMs })

describe('quantile', () => {
  it.each([
    [[3, 1, 2], 0.5, 2],
    [[4, 1, 2, 3], 0.5, 2.5],
    [Array.from({ length: 20 }, (_, index) => index + 1), 0.95, 19],
    [[7], 0.95, 7],
  ])('of %j at %d is %d', (values, part, expected) => {
    expect(quantile(values, part)).toBe(expected)
  })

  it('leaves out what could not be measured', () => {
    expect(quantile([Number.NaN, 3, 1], 0.99)).toBe(3)
  })

  it('of nothing is no number', () => {
    expect(quantile([], 0.5)).toBeNaN()
  })
})

describe('summarize', () => {
  it('compares within a round, so that a slow minute does not count', () => {
    const report = summarize({
      ours: [sample(10), sample(200), sample(30)],
      floor: [sample(5), sample(100), sample(10)],
    })
    const unknown = { startMs: Number.NaN, endMs: Number.NaN }
    expect(report.ours?.ratios).toEqual({ floor: { firstByteMs: 2, resultMs: 2, ...unknown } })
    const samples = [10, 200, 30]
    expect(report.ours?.metrics.firstByteMs).toEqual({ median: 30, p95: 200, p99: 200, samples })
  })

  it('compares only rounds in which both could tell', () => {
    const report = summarize({
      ours: [
        { ...sample(10), startMs: 6 },
        { ...sample(10), startMs: Number.NaN },
      ],
      floor: [
        { ...sample(5), startMs: 3 },
        { ...sample(5), startMs: 1 },
      ],
    })
    expect(report.ours?.ratios.floor?.startMs).toBe(2)
  })
})

describe('renderTable', () => {
  it('shows medians, p95, p99 and ratios, and no table of what nobody could tell', () => {
    const report = summarize({ ours: [sample(10), sample(20)], floor: [sample(5), sample(10)] })
    expect(renderTable(report, ['floor'])).toBe(
      [
        '| to the first byte |  median |     p95 |     p99 | ÷ floor |',
        '| ----------------- | ------: | ------: | ------: | ------: |',
        '| ours              | 15.0 ms | 20.0 ms | 20.0 ms |    2.00 |',
        '| floor             |  7.5 ms | 10.0 ms | 10.0 ms |       1 |',
        '',
        '| to the result |  median |     p95 |     p99 | ÷ floor |',
        '| ------------- | ------: | ------: | ------: | ------: |',
        '| ours          | 30.0 ms | 40.0 ms | 40.0 ms |    2.00 |',
        '| floor         | 15.0 ms | 20.0 ms | 20.0 ms |       1 |',
      ].join('\n'),
    )
  })
})

describe('slope', () => {
  it('is that of the line through the points, whatever lies beside it evenly', () => {
    expect(
      slope([
        [0, 1],
        [1, 3],
        [2, 5],
      ]),
    ).toBe(2)
    expect(
      slope([
        [0, 5],
        [0, 7],
        [10, 5],
        [10, 7],
      ]),
    ).toBe(0)
  })
})

describe('roundsOf', () => {
  it('ends with the last round, or when the time is over after one that counts', () => {
    expect([...roundsOf({ most: 3, seconds: 60 })]).toEqual([0, 1, 2, 3])
    expect([...roundsOf({ most: 3, seconds: -1 })]).toEqual([0, 1])
  })
})

describe('targets', () => {
  const atMost = (measured: number) => ({ what: 'a', atMost: 2, unit: 'ms', measured })
  const atLeast = (measured: number) => ({ what: 'b', atLeast: 0.9, unit: '×', measured })

  it('are met at their limits, and missed beyond them or where nothing was measured', () => {
    expect([atMost(2), atMost(2.1), atMost(Number.NaN)].map(isMet)).toEqual([true, false, false])
    expect([atLeast(0.9), atLeast(0.8), atLeast(Number.NaN)].map(isMet)).toEqual([true, false, false])
  })

  it('say so when they are missed', () => {
    const lines = renderTargets([atMost(1), atLeast(0.5)]).split('\n')
    expect(lines[2]).toMatch(/^\| a +\| +≤ 2 ms \| +1 ms \| +met \|$/)
    expect(lines[3]).toMatch(/^\| b +\| +≥ 0.9 × \| +0.5 × \| +\*\*target missed\*\* \|$/)
  })
})

describe('measure', () => {
  it('lets everybody run in every round, in turn, and does not count the first', async () => {
    const order: string[] = []
    const contender = (name: string) => ({
      name,
      prepare: async () => undefined,
      run: async (round: number) => {
        order.push(`${name}${round}`)
        return sample(round)
      },
    })
    const samples = await measure({
      contenders: [contender('a'), contender('b')],
      rounds: { most: 2, seconds: 60 },
    })
    expect(order).toEqual(['a0', 'b0', 'b1', 'a1', 'a2', 'b2'])
    expect(samples).toEqual({ a: [sample(1), sample(2)], b: [sample(1), sample(2)] })
  })
})

describe('mostSeconds', () => {
  it('gives a suite what the others leave, up to twice its share and a start', () => {
    expect(mostSeconds({ seconds: 60, left: 570, later: 460 })).toBe(110)
    expect(mostSeconds({ seconds: 60, left: 570, later: 0 })).toBe(140)
  })

  it('leaves it its share when others overran theirs', () => {
    expect(mostSeconds({ seconds: 60, left: 100, later: 90 })).toBe(60)
  })
})

describe('tryOut', () => {
  const peer = { name: 'peer', prepare: async () => undefined }

  it('gives back a peer that runs here', async () => {
    const works = { ...peer, run: async () => sample(1) }
    expect(await tryOut(works)).toBe(works)
  })

  it('names the reason of one that does not', async () => {
    const broken = { ...peer, run: () => Promise.reject(new Error('no such image')) }
    expect(await tryOut(broken)).toEqual({
      name: 'peer',
      reason: 'it failed when it was tried: Error: no such image',
    })
  })
})
