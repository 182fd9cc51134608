import { describe, expect, it } from '@jest/globals'
import { measure } from './measure.js'
import { quantile, summarize } from './statistics.js'
import { renderTable } from './table.js'

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
    expect(report.ours?.ratios).toEqual({ floor: { firstByteMs: 2, resultMs: 2 } })
    expect(report.ours?.metrics.firstByteMs).toEqual({ median: 30, p95: 200, samples: [10, 200, 30] })
  })
})

describe('renderTable', () => {
  it('shows medians, p95 and ratios', () => {
    const report = summarize({ ours: [sample(10), sample(20)], floor: [sample(5), sample(10)] })
    expect(renderTable(report, ['floor'])).toBe(
      [
        'to the first byte   median      p95  ÷ floor',
        'ours               15.0 ms  20.0 ms     2.00',
        'floor               7.5 ms  10.0 ms        1',
        'to the result       median      p95  ÷ floor',
        'ours               30.0 ms  40.0 ms     2.00',
        'floor              15.0 ms  20.0 ms        1',
      ].join('\n'),
    )
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
