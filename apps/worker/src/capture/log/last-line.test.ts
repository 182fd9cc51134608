import { describe, expect, it } from '@jest/globals'
import { Redactor } from '../../support/redactor.js'
import { Secret } from '../../support/secret.js'
import { lastLineOf } from './last-line.js'

const same = (text: string) => text
const lineOf = (text: string, redact = same) => lastLineOf(Buffer.from(text), redact)

describe('the last line of a log', () => {
  it('is the last that shows anything', () => {
    expect(lineOf('one\ntwo\n\n  \u001b[0m\n')).toBe('two')
    expect(lineOf('10%\r50%\r')).toBe('50%')
    expect(lineOf('\n \n')).toBeNull()
    expect(lineOf('')).toBeNull()
  })

  it('is plain text of 200 characters at most', () => {
    expect(lineOf('\u001b[1ma\tb\u0007c\u202e')).toBe('a b c')
    expect(lineOf('😀'.repeat(300))).toBe('😀'.repeat(200))
    const cut = lastLineOf(Buffer.from('é and more').subarray(1), same)
    expect(cut).toBe('and more')
  })

  it('holds no secret that an escape sequence hid, nor a part of one', () => {
    const redactor = Redactor.of([{ name: 'TOKEN', value: new Secret('hunter2-hunter2') }])
    const line = lineOf(`${'x'.repeat(195)}hunter2\u001b[0m-hunter2`, text => redactor.text(text))
    expect(line).toContain('xxx')
    expect(line).not.toContain('hun')
  })
})
