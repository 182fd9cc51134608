import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { formsOf } from './forms.js'
import { Matcher, type Needle } from './matcher.js'
import { SHAPES } from './shapes.js'
import { Skipper } from './skipper.js'
import { RedactingStream } from './stream.js'

const SHAPE_NEEDLES: readonly Needle[] = SHAPES.map(shape => ({
  bytes: Buffer.from(shape.prefix, 'latin1'),
  rest: null,
  shape,
}))

/** Needles with `rest`, so that runs are in it as well. */
function needlesOf(secrets: readonly Buffer[]): Needle[] {
  const forms = secrets.flatMap(secret => formsOf(secret))
  return [
    ...forms.map(form => ({ bytes: form.subarray(0, 12), rest: form.subarray(12), shape: null })),
    ...SHAPE_NEEDLES,
  ]
}

/** What comes out for each chunk, and at the end; each piece with its bytes. */
function passed(matcher: Matcher, chunks: readonly Buffer[]) {
  const stream = new RedactingStream(matcher, 7)
  return [...chunks.map(chunk => stream.push(chunk)), stream.flush()].map(pieces =>
    pieces.map(
      ({ offset, length, bytes, masked }) => `${offset} ${length} ${masked} ${bytes.toString('hex')}`,
    ),
  )
}

function cut(bytes: Buffer, borders: readonly number[]): Buffer[] {
  const places = [...new Set([0, ...borders.map(border => border % (bytes.length + 1)), bytes.length])]
  const sorted = places.toSorted((a, b) => a - b)
  return sorted.slice(1).map((to, index) => bytes.subarray(sorted[index], to))
}

/** Few letters, so that beginnings of needles come often, and go on as they should seldom. */
const secret = fc
  .oneof(
    fc.string({ unit: fc.constantFrom('a', 'b', ':', '/', '-'), minLength: 6, maxLength: 30 }),
    fc.string({ unit: 'binary', minLength: 6, maxLength: 40 }),
  )
  .map(text => Buffer.from(text))
  .filter(({ length }) => length >= 6)

const TOKEN = 'A1b2'.repeat(10)
const plain = fc.oneof(
  fc.string({
    unit: fc.constantFrom('a', 'b', ':', '/', '-', 'g', 'h', 'p', '_', 'A', 'K', 'I'),
    maxLength: 40,
  }),
  fc.constantFrom(...SHAPES.map(({ prefix }) => prefix), TOKEN, TOKEN.toUpperCase(), '@', ' ', '\n'),
  fc.string({ unit: 'binary', maxLength: 20 }),
)

describe('stepping over what begins no needle', () => {
  it('gives byte by byte, and piece by piece, what the automaton alone gives', () => {
    const pieces = fc.array(
      fc.oneof(plain, fc.nat({ max: 2 }), fc.tuple(fc.nat({ max: 2 }), fc.nat({ max: 40 }))),
      {
        maxLength: 30,
      },
    )
    fc.assert(
      fc.property(
        fc.array(secret, { maxLength: 3 }),
        pieces,
        fc.array(fc.nat({ max: 2000 }), { maxLength: 12 }),
        (secrets, parts, borders) => {
          // A number stands for a form of a secret, two of them for the beginning of one.
          const forms = secrets.flatMap(one => formsOf(one))
          const form = (index: number) =>
            forms[(index * 7) % Math.max(1, forms.length)] ?? Buffer.from('none')
          const bytes = Buffer.concat(
            parts.map(part => {
              if (typeof part === 'string') return Buffer.from(part)
              return typeof part === 'number' ? form(part) : form(part[0]).subarray(0, part[1])
            }),
          )
          const needles = needlesOf(secrets)
          const chunks = cut(bytes, borders)
          expect(passed(new Matcher(needles), chunks)).toEqual(passed(new Matcher(needles, false), chunks))
        },
      ),
      { numRuns: 1500 },
    )
  })

  it('steps over most of what a build prints, and is used with secrets, too', () => {
    const line = Buffer.from('[12:01:02] compiled 120 of 240 modules without an error\n'.repeat(100))
    const skipper = new Matcher(needlesOf([Buffer.from('correct-horse-battery-staple')])).skipper as Skipper
    expect(skipper.next(line, 0)).toBe(line.length - 3)
    // The control: there it stops.
    const found = Buffer.from(`${'x'.repeat(1000)}correct-horse`)
    expect(skipper.next(found, 0)).toBe(1000)
  })

  it('finds a needle of three bytes, wherever text begins', () => {
    const skipper = Skipper.of([Buffer.from('://')]) as Skipper
    for (const before of ['', 'x', 'xy', 'xyz', 'wxyz', '/', ':', ':/', '::']) {
      const at = skipper.next(Buffer.from(`${before}://rest of it`), 0)
      expect([before.length, before.length - 1]).toContain(at)
    }
  })

  it('is left alone where needles begin with nearly everything, or are too short for it', () => {
    const many = Array.from({ length: 20_000 }, (_, index) =>
      Buffer.from(`${(index * 7919).toString(36)}-secret`),
    )
    expect(Skipper.of(many)).toBeNull()
    expect(Skipper.of([Buffer.from('ab')])).toBeNull()
  })
})
