import { describe, expect, it } from '@jest/globals'
import * as fc from 'fast-check'
import { incompleteTail, newlinesIn } from './characters.js'

describe('incompleteTail', () => {
  it('finds the character that a cut splits, at every cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat(), (text, at) => {
        const bytes = Buffer.from(text)
        const cut = bytes.length === 0 ? 0 : at % (bytes.length + 1)
        const head = bytes.subarray(0, cut)
        const whole = head.subarray(0, head.length - incompleteTail(head))
        expect(bytes.toString().startsWith(whole.toString())).toBe(true)
        expect(head.length - whole.length).toBeLessThan(4)
      }),
    )
  })

  it('holds nothing back of bytes that never were UTF-8', () => {
    expect(incompleteTail(Buffer.from([0xff]))).toBeLessThanOrEqual(1)
    expect(incompleteTail(Buffer.from([0x80, 0x80, 0x80, 0x80]))).toBe(0)
    expect(incompleteTail(Buffer.from('plain'))).toBe(0)
  })
})

describe('newlinesIn', () => {
  it('counts what a look at each byte counts, in long lines, short ones, and both', () => {
    const lines = fc.array(fc.tuple(fc.nat({ max: 60 }), fc.nat({ max: 40 })), { maxLength: 20 })
    fc.assert(
      fc.property(lines, fc.boolean(), (runs, ends) => {
        const text = runs.map(([length, times]) => `${'x'.repeat(length)}\n`.repeat(times)).join('')
        const bytes = Buffer.from(ends ? text : `${text}x`)
        expect(newlinesIn(bytes)).toBe(bytes.filter(byte => byte === 10).length)
      }),
    )
    expect(newlinesIn(Buffer.from('y\n'.repeat(1000)))).toBe(1000)
    expect(newlinesIn(Buffer.alloc(0))).toBe(0)
  })
})
