import { describe, expect, it } from '@jest/globals'
import * as fc from 'fast-check'
import { incompleteTail } from './characters.js'

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
