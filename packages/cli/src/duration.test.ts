import { describe, expect, it } from '@jest/globals'
import { readSpan } from './duration.js'

describe('a span of time', () => {
  it.each([
    ['90', 90_000],
    ['90s', 90_000],
    ['30m', 1_800_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
  ])('%s', (text, ms) => {
    expect(readSpan(text, '--for')).toBe(ms)
  })

  it.each(['', '0', '0h', '-1', '1.5h', '1w', '1 h', 'h', '1h30m', '9999999999'])('is not %j', text => {
    expect(() => readSpan(text, '--for')).toThrow(/--for can't be .*; give it like 30m/)
  })
})
