import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { newBorder, type Piece, StepBorders } from './step-borders.js'

const HEAD = newBorder()
const border = (step: number) => `${HEAD}${step}\n`

/** Pieces as text, neighbouring bytes as one. */
function join(pieces: readonly Piece[]): (string | number)[] {
  const joined: (string | number)[] = []
  for (const piece of pieces) {
    const last = joined.at(-1)
    if ('step' in piece) joined.push(piece.step)
    else if (typeof last === 'string') joined[joined.length - 1] = last + piece.bytes.toString('latin1')
    else joined.push(piece.bytes.toString('latin1'))
  }
  return joined
}

function read(text: string, cut: number): (string | number)[] {
  const borders = new StepBorders(HEAD)
  const bytes = Buffer.from(text, 'latin1')
  const pieces: Piece[] = []
  for (let at = 0; at < bytes.length; at += cut) pieces.push(...borders.push(bytes.subarray(at, at + cut)))
  return join([...pieces, ...borders.flush()])
}

describe('step borders', () => {
  test('are taken out wherever the chunks are cut, and what is between them stays', () => {
    const text = `${border(0)}one${border(1)}${border(2)}three\n${border(12)}`
    for (let cut = 1; cut <= text.length; cut += 1)
      expect(read(text, cut)).toEqual([0, 'one', 1, 2, 'three\n', 12])
  })

  test('leave alone what only looks like one', () => {
    const odd = [
      HEAD,
      `${HEAD}x\n`,
      `${HEAD}123456789\n`,
      `${HEAD}\n`,
      HEAD.slice(0, -3),
      '\u0001',
      '\u0001\u0001',
    ]
    for (const text of odd) for (const cut of [1, 2, 3, 1000]) expect(read(text, cut)).toEqual([text])
    for (const cut of [1, 5, 1000]) expect(read(`${HEAD}x${border(4)}`, cut)).toEqual([`${HEAD}x`, 4])
  })

  test('lose and change no byte of anything', () => {
    const part = fc.oneof(fc.constantFrom(HEAD, border(3), HEAD.slice(0, 9), '\u0001', '\n'), fc.string())
    fc.assert(
      fc.property(fc.array(part), fc.integer({ min: 1, max: 30 }), (parts, cut) => {
        const text = Buffer.from(parts.join(''), 'utf8').toString('latin1')
        const again = read(text, cut).map(piece => (typeof piece === 'number' ? border(piece) : piece))
        expect(again.join('')).toBe(text)
      }),
    )
  })

  test('hold back nothing of ordinary output, so that it is shown when it is printed', () => {
    expect(join(new StepBorders(HEAD).push(Buffer.from('Continue? [y/n] ')))).toEqual(['Continue? [y/n] '])
  })

  test('are told apart by attempt', () => {
    expect(newBorder()).not.toBe(newBorder())
  })
})
