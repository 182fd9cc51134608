import { describe, expect, it } from '@jest/globals'
import { formsOf } from './redaction/forms.js'
import { Redactor } from './redactor.js'
import { Secret } from './secret.js'

const PLAIN = 's3cr3t/Wört+"42"~end'

function redactorOf(...secrets: (string | Buffer)[]): Redactor {
  return Redactor.of(secrets.map((value, index) => ({ name: `S${index}`, value: new Secret(value) })))
}

/** What comes out of a stream that gets the bytes in these chunks. */
function masked(redactor: Redactor, chunks: readonly Buffer[]): string {
  const stream = redactor.stream()
  const pieces = [...chunks.flatMap(chunk => stream.push(chunk)), ...stream.flush()]
  return Buffer.concat(pieces.map(({ bytes }) => bytes)).toString('latin1')
}

function inPieces(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  )
}

/** A secret in an encoded text, at each of the three places where its base64 differs. */
const base64At = (before: string) => Buffer.from(`${before}${PLAIN} and more`).toString('base64')

describe('a redactor', () => {
  const redactor = redactorOf(PLAIN)
  const disguises: [string, string, string][] = [
    ['bytes', PLAIN, PLAIN],
    ['base64', Buffer.from(PLAIN).toString('base64'), Buffer.from(PLAIN).toString('base64').slice(0, 26)],
    ...['', 'x', 'xy', 'xyz'].map((before): [string, string, string] => [
      `base64 after ${before.length} bytes`,
      base64At(before),
      base64At(before).slice(8, 28),
    ]),
    ['base64url', Buffer.from(PLAIN).toString('base64url'), Buffer.from(PLAIN).toString('base64url')],
    ['a component of a URL', encodeURIComponent(PLAIN), encodeURIComponent(PLAIN)],
    ['a form', String(new URLSearchParams({ a: PLAIN })).slice(2), 'W%C3%B6rt'],
    ['a URL in small letters', encodeURIComponent(PLAIN).toLowerCase().replace('w', 'W'), '%c3%b6rt'],
    ['JSON', JSON.stringify(PLAIN), 'W\u00f6rt'],
    ['JSON in ASCII', JSON.stringify(PLAIN).replace('ö', '\\u00f6'), 'rt+\\"42'],
    ['hexadecimal digits', Buffer.from(PLAIN).toString('hex'), Buffer.from(PLAIN).toString('hex')],
    ['large ones', Buffer.from(PLAIN).toString('hex').toUpperCase(), '227E'],
  ]

  it.each(disguises)('masks %s, wherever the chunks end', (_name, text, tell) => {
    const bytes = Buffer.from(`before ${text} after ${text}${text}`)
    // The control: what is looked for is there.
    expect(bytes.toString('latin1')).toContain(Buffer.from(tell).toString('latin1'))
    const whole = masked(redactor, [bytes])
    expect(whole).toMatch(/^before .{0,4}\*\*\*.{0,20} after /s)
    expect(whole).not.toContain(Buffer.from(tell).toString('latin1'))
    for (let border = 1; border < bytes.length; border += 1) {
      expect(masked(redactor, [bytes.subarray(0, border), bytes.subarray(border)])).toBe(whole)
    }
    for (const size of [1, 2, 3, 7]) expect(masked(redactor, inPieces(bytes, size))).toBe(whole)
  })

  it('leaves everything else as it is, byte by byte', () => {
    const bytes = Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7 + (index >> 3)) % 256))
    expect(Buffer.from(masked(redactor, inPieces(bytes, 100)), 'latin1').equals(bytes)).toBe(true)
  })

  it('says where in the stream each piece was', () => {
    const stream = redactor.stream(1000)
    const bytes = Buffer.from(`ab${PLAIN}cd`)
    const pieces = [...inPieces(bytes, 5).flatMap(chunk => stream.push(chunk)), ...stream.flush()]
    let offset = 1000
    for (const piece of pieces) {
      expect(piece.offset).toBe(offset)
      offset += piece.length
    }
    expect(offset).toBe(1000 + bytes.length)
    expect(Buffer.concat(pieces.map(piece => piece.bytes)).toString()).toBe('ab***cd')
  })

  it('passes on at once what can begin no secret', () => {
    const stream = redactor.stream()
    expect(Buffer.concat(stream.push(Buffer.from('a line\n')).map(({ bytes }) => bytes)).toString()).toBe(
      'a line\n',
    )
    expect(stream.flush()).toEqual([])
  })

  it('masks both of two secrets that overlap, and one that begins another', () => {
    const both = redactorOf('abcdefgh', 'efghijkl', 'abcdefghijklmnop')
    expect(masked(both, [Buffer.from('<abcdefghijkl> <abcdefghijklmnop> <abcdefgh>')])).toBe(
      '<***> <***> <***>',
    )
  })

  it('holds back little of a text that is nothing but its secret', () => {
    const repeated = redactorOf('a'.repeat(1000))
    const stream = repeated.stream()
    const flood = Buffer.alloc(64 * 1024, 'a')
    const shown: Buffer[] = []
    let passed = 0
    for (let round = 1; round <= 64; round += 1) {
      for (const { bytes, length } of stream.push(flood)) {
        shown.push(bytes)
        passed += length
      }
      expect(round * flood.length - passed).toBeLessThan(4096)
    }
    expect(Buffer.concat([...shown, ...stream.flush().map(({ bytes }) => bytes)]).toString()).toBe('***')
  })

  it('names secrets that are too short, and leaves the text whole', () => {
    const short = Redactor.of([
      { name: 'PIN', value: new Secret('12345') },
      { name: 'EMPTY', value: new Secret('') },
      { name: 'TOKEN', value: new Secret('123456') },
    ])
    expect(short.notMaskable).toEqual(['PIN', 'EMPTY'])
    expect(short.text('12345 and 123456')).toBe('12345 and ***')
  })

  it('masks each line of a secret that has several', () => {
    const lines = redactorOf('first line\r\nsecond line\nx\n')
    expect(lines.text('> second line\n> first line\n> x')).toBe('> ***\n> ***\n> x')
  })

  it('masks a long secret whose base64 is broken into lines', () => {
    const value = Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 31) % 251))
    const wrapped = value.toString('base64').replace(/.{76}/g, '$&\n')
    expect(redactorOf(value).text(wrapped)).toMatch(/^(\*\*\*\n){5}\*\*\*$/)
  })

  it('takes a secret of 64 KiB with a thousand lines', () => {
    const lines = Array.from({ length: 1000 }, (_, index) => `line ${index} ${'x'.repeat(50)} ${index}`)
    const large = redactorOf(lines.join('\n'))
    expect(large.text(`<${lines.join('\n')}> <${lines[500]}>`)).toBe('<***> <***>')
  })

  it('masks texts and names of JSON, and leaves the rest of it', () => {
    const value = { [`a${PLAIN}`]: [1, null, true, `x ${PLAIN}`, { deep: PLAIN }] }
    expect(redactor.json(value)).toEqual({ 'a***': [1, null, true, 'x ***', { deep: '***' }] })
  })

  it('finds a secret in bytes that come in pieces, and nothing where there is none', () => {
    const text = Buffer.from(`tar archive ${Buffer.from(PLAIN).toString('hex')} end`)
    const finder = redactor.finds()
    expect(inPieces(text, 3).map(piece => finder.push(piece))).toContain(true)
    const other = redactor.finds()
    expect(
      inPieces(Buffer.from(`ghp_${'a'.repeat(36)} ${PLAIN.slice(1)}`), 3).some(piece => other.push(piece)),
    ).toBe(false)
  })

  it.each([
    ['a token of GitHub', `ghp_${'aB3'.repeat(12)}`, '***'],
    ['a fine-grained one', `github_pat_${'aB3_'.repeat(20)}`, '***'],
    ['a token of GitLab', `glpat-${'a-B3_'.repeat(4)}`, '***'],
    ['a key of AWS', 'AKIAABCDEFGHIJKLMNOP', '***'],
    ['a token of npm', `npm_${'a1B2'.repeat(9)}`, '***'],
    ['a header', 'Authorization: Bearer abc.def.ghi-123', 'Authorization: Bearer ***'],
    ['a password in a URL', 'https://user:pa55@host/x', 'https://***@host/x'],
    ['a token in a URL', 'https://0123456789abcdef0123@host/x', 'https://***@host/x'],
    ['a user alone', 'ssh://git@host/x', 'ssh://git@host/x'],
    ['a URL', 'https://host/path@x', 'https://host/path@x'],
    ['what is too short for a token', 'ghp_abc and AKIA', 'ghp_abc and AKIA'],
    [
      'a private key',
      `-----BEGIN PRIVATE KEY-----\n${'aB3/'.repeat(40)}\n-----END PRIVATE KEY-----`,
      '-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----',
    ],
  ])('knows the shape of %s', (_name, text, shown) => {
    const nobodys = Redactor.of([])
    for (const around of ['', ' ', '"'])
      for (const size of [1, 5, 1000])
        expect(masked(nobodys, inPieces(Buffer.from(`${around}${text}${around}`), size))).toBe(
          `${around}${shown}${around}`,
        )
  })
})

describe('against a search without any art', () => {
  it('masks the same, for many secrets and texts of few letters', () => {
    let seed = 20_261_123
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
      return Math.floor((seed / 2 ** 31) * below)
    }
    const word = (length: number) => Array.from({ length }, () => 'ab'[random(2)]).join('')
    for (let round = 0; round < 300; round += 1) {
      const secrets = Array.from({ length: 1 + random(3) }, () => word(6 + random(6)))
      const text = word(200)
      const sizes = Array.from({ length: 200 }, () => 1 + random(9))
      const chunks: Buffer[] = []
      for (let at = 0; at < text.length; at += sizes[chunks.length - 1] ?? 1)
        chunks.push(Buffer.from(text.slice(at, at + (sizes[chunks.length] ?? 1))))
      expect([secrets, masked(redactorOf(...secrets), chunks)]).toEqual([secrets, plainly(text, secrets)])
    }
  })

  /** Every place of every form, one by one. */
  function plainly(text: string, secrets: readonly string[]): string {
    const hidden = new Uint8Array(text.length)
    for (const form of secrets.flatMap(secret => formsOf(Buffer.from(secret)))) {
      for (let at = text.indexOf(form.toString()); at !== -1; at = text.indexOf(form.toString(), at + 1))
        hidden.fill(1, at, at + form.length)
    }
    return Array.from(text)
      .map((letter, at) => (hidden[at] === 0 ? letter : hidden[at - 1] === 1 ? '' : '***'))
      .join('')
  }
})
