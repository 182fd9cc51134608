import { describe, expect, it } from '@jest/globals'
import { REDACTED } from './redact.js'
import { joinSecrets, TextRedactor } from './redact-stream.js'

const TOKEN = `ghp_${'Zz9'.repeat(12)}`
const KEY_LINES = [
  '-----BEGIN RSA PRIVATE KEY-----\n',
  ...Array.from({ length: 50 }, (_, i) => `${'aB3d'.repeat(15)}${i}\n`),
  '-----END RSA PRIVATE KEY-----\n',
]

describe('a secret across the border of two pieces', () => {
  it.each([
    [[`push ${TOKEN.slice(0, 10)}`, `${TOKEN.slice(10)} now\n`]],
    [['password=hun', 'ter2hunter2\n']],
    [['https://me:hun', 'ter2@git.example.com/x\n']],
    [[TOKEN.slice(0, 5), TOKEN.slice(5, 15), TOKEN.slice(15)]],
  ])('is joined in %j', pieces => {
    const joined = joinSecrets(pieces)
    expect(joined).toHaveLength(pieces.length)
    expect(joined.join('')).toBe(pieces.join(''))
    expect(joined.map(piece => new TextRedactor().redact(piece)).join('')).toContain(REDACTED)
    expect(joined.map(piece => new TextRedactor().redact(piece)).join('')).not.toMatch(/hunter2|Zz9Zz9|ter2/)
  })

  it('is no reason to join anything else', () => {
    const pieces = ['one\n', `${TOKEN}\n`, 'tw', 'o\n', '', 'three']
    expect(joinSecrets(pieces)).toEqual(pieces)
  })
})

describe('a private key that comes line by line', () => {
  it('is hidden from its first line to its last', () => {
    const redactor = new TextRedactor()
    const shown = ['before\n', ...KEY_LINES, 'after\n'].map(line => redactor.redact(line)).join('')
    expect(shown).toBe(`before\n${REDACTED}\nafter\n`)
  })

  it('that never ends hides no more than a key would be', () => {
    const redactor = new TextRedactor()
    redactor.redact('grep "-----BEGIN PRIVATE KEY-----"\n')
    const lines = Array.from({ length: 1000 }, () => redactor.redact(`${'x'.repeat(99)}\n`))
    expect(lines.join('').length).toBeGreaterThan(80_000)
  })

  it('may be followed by another', () => {
    const redactor = new TextRedactor()
    const both = [
      ...KEY_LINES.slice(0, -1),
      '-----END RSA PRIVATE KEY----------BEGIN PRIVATE KEY-----\nabc\n',
      'def\n',
    ]
    expect(both.map(line => redactor.redact(line)).join('')).not.toMatch(/aB3d|abc|def/)
  })
})
