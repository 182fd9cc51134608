import { describe, expect, test } from '@jest/globals'
import { PLAIN, paletteColour, plainText, segmentsOf, styleAfter } from './ansi.js'

const ESC = '\u001b'
const shown = (raw: string) => segmentsOf(raw).segments.map(({ text, style }) => ({ text, ...style }))

describe('a line of a log', () => {
  test('that is plain is one piece', () => {
    expect(segmentsOf('make test').segments).toEqual([{ text: 'make test', style: PLAIN }])
    expect(segmentsOf('').segments).toEqual([])
  })

  test('has colours of 16, of 256 and of 24 bits', () => {
    expect(shown(`${ESC}[31ma${ESC}[92mb${ESC}[38;5;208mc${ESC}[48;2;1;2;3md${ESC}[0me`)).toMatchObject([
      { text: 'a', fg: 1 },
      { text: 'b', fg: 10 },
      { text: 'c', fg: 208 },
      { text: 'd', fg: 208, bg: '#010203' },
      { text: 'e', fg: null, bg: null },
    ])
  })

  test('is bold and underlined until told otherwise', () => {
    expect(shown(`${ESC}[1;4mx${ESC}[22;24my`)).toMatchObject([
      { text: 'x', bold: true, underline: true },
      { text: 'y', bold: false, underline: false },
    ])
  })

  test('leaves its style to the next one', () => {
    const { end } = segmentsOf(`${ESC}[35mfirst`)
    expect(end).toMatchObject({ fg: 5 })
    expect(styleAfter(`${ESC}[35mfirst`, PLAIN)).toEqual(end)
    expect(segmentsOf('second', end).segments[0]?.style.fg).toBe(5)
  })

  test('takes a colour that makes no sense for none, and goes on', () => {
    expect(shown(`${ESC}[38;5;999mx`)).toMatchObject([{ text: 'x', fg: null }])
    expect(shown(`${ESC}[38;2;1;2mx`)).toMatchObject([{ text: 'x', fg: null }])
    expect(shown(`${ESC}[38mx`)).toMatchObject([{ text: 'x', fg: null }])
  })

  test('is written over after a carriage return', () => {
    expect(plainText('10%\r50%\r100%')).toBe('100%')
    expect(plainText('longer\rab')).toBe('abnger')
    expect(plainText(`longer\r${ESC}[Kab`)).toBe('ab')
    expect(plainText(`longer${ESC}[2K\rab`)).toBe('ab')
  })
})

describe('of what a terminal would obey', () => {
  test.each([
    ['a title', `${ESC}]0;owned\u0007text`, 'text'],
    ['a link', `${ESC}]8;;javascript:alert(1)${ESC}\\text${ESC}]8;;${ESC}\\`, 'text'],
    ['a link in 8 bits', '\u009d8;;https://evil.example\u009ctext', 'text'],
    ['the clipboard', `${ESC}]52;c;ZXZpbA==\u0007text`, 'text'],
    ['a string without an end', `text${ESC}]0;and so on`, 'text'],
    ['a device control string', `${ESC}Pq#0;2;0;0;0${ESC}\\text`, 'text'],
    ['the cursor', `${ESC}[2J${ESC}[10;10Htext${ESC}[?25l`, 'text'],
    ['a character set', `${ESC}(0text`, 'text'],
    ['a bell and a backspace', 'te\u0007xt\b', 'text'],
    ['a sequence that breaks off', `text${ESC}[3`, 'text'],
    ['a lone escape', `text${ESC}`, 'text'],
    ['a text direction', 'te\u202ext', 'text'],
  ])('%s is dropped', (_name, raw, text) => {
    expect(plainText(raw)).toBe(text)
    expect(
      segmentsOf(raw)
        .segments.map(segment => segment.text)
        .join(''),
    ).toBe(text)
  })

  test('nothing is left of any mixture, and HTML is only text', () => {
    const parts = [
      ESC,
      '[',
      ']',
      '31m',
      '8;;',
      '\u0007',
      '\\',
      '\r',
      '<b>',
      'x',
      '\u009b',
      'K',
      ';',
      'P',
      '\t',
      '38;5',
      '😀',
    ]
    let state = 7
    const random = (below: number) => {
      state = (state * 48_271) % 2_147_483_647
      return state % below
    }
    for (let round = 0; round < 3000; round += 1) {
      const raw = Array.from({ length: random(14) }, () => parts[random(parts.length)]).join('')
      const { segments, end } = segmentsOf(raw)
      const text = segments.map(segment => segment.text).join('')
      expect(text).not.toMatch(/\p{Cc}/u)
      expect(segments.every(segment => segment.text !== '')).toBe(true)
      expect(plainText(raw)).toBe(text)
      expect(styleAfter(raw, PLAIN)).toEqual(end)
    }
    expect(plainText('<script>alert(1)</script>')).toBe('<script>alert(1)</script>')
  })
})

test('the palette holds a cube and greys', () => {
  expect([16, 196, 231, 232, 255].map(paletteColour)).toEqual([
    '#000000',
    '#ff0000',
    '#ffffff',
    '#080808',
    '#eeeeee',
  ])
})
