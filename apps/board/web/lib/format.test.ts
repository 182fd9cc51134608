import { expect, test } from '@jest/globals'
import { age, bytes, cores, duration, percent, shortDigest } from './format.js'

test.each([
  [null, '–'],
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.5 KiB'],
  [2147483648, '2 GiB'],
  [812345678, '775 MiB'],
])('%p bytes are %s', (value, text) => {
  expect(bytes(value)).toBe(text)
})

test.each([
  [null, '–'],
  [0, '0 ms'],
  [999, '999 ms'],
  [1500, '1.5 s'],
  [59_940, '59.9 s'],
  [59_999, '1m'],
  [90_000, '1m 30s'],
  [3_660_000, '1h 1m'],
  [90_000_000, '1d 1h'],
])('%p ms are %s', (value, text) => {
  expect(duration(value)).toBe(text)
})

test('an age is one unit', () => {
  const now = Date.parse('2030-01-02T00:00:00Z')
  const ago = (seconds: number) => age(new Date(now - seconds * 1000).toISOString(), now)
  expect([0, 12, 59, 60, 3599, 3600, 86_399, 172_800].map(ago)).toEqual([
    'now',
    '12s',
    '59s',
    '1m',
    '59m',
    '1h',
    '23h',
    '2d',
  ])
  expect(age(null, now)).toBe('–')
  expect(age('2030-01-02T00:00:05Z', now)).toBe('now')
})

test('a share of nothing is none', () => {
  expect([percent(1, 4), percent(0, 0)]).toEqual(['25%', '–'])
  expect([cores(0.5), cores(2), cores(10), cores(null)]).toEqual(['0.5', '2', '10', '–'])
  expect(shortDigest('debian@sha256:ab12cd34ef5678')).toBe('ab12cd34ef56')
  expect(shortDigest(null)).toBeNull()
})
