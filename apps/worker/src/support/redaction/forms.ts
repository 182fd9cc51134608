/** What is shorter is too likely to be an innocent word: masking it would destroy the log. In bytes. */
export const MIN_BYTES = 6

/** Programs that print base64 break their lines after so many characters: coreutils' base64, and PEM. */
const WRAPS = [76, 64]

/**
 * Everything by which a secret may come out: its bytes, its lines, and both in base64 (wherever in an encoded text they
 * lie), percent-encoding, JSON and hexadecimal digits. None is shorter than MIN_BYTES.
 */
export function formsOf(secret: Buffer): Buffer[] {
  const forms = new Map<string, Buffer>()
  for (const part of [secret, ...linesOf(secret)]) {
    for (const form of [part, ...encodingsOf(part)]) {
      if (form.length >= MIN_BYTES) forms.set(form.toString('latin1'), form)
    }
  }
  return [...forms.values()]
}

/** The lines of a text that has several; a program may print them one by one, with something before each. */
function linesOf(secret: Buffer): Buffer[] {
  const lines = secret
    .toString('latin1')
    .split(/[\r\n]+/)
    .map(line => Buffer.from(line.trim(), 'latin1'))
  return lines.filter(line => line.length >= MIN_BYTES && line.length < secret.length)
}

function encodingsOf(bytes: Buffer): Buffer[] {
  // What is too short to be masked as it is must not be masked in disguise either.
  if (bytes.length < MIN_BYTES) return []
  const texts = [...base64Of(bytes), ...hexOf(bytes), ...percentOf(bytes), ...jsonOf(bytes)]
  return texts.map(text => Buffer.from(text, 'utf8'))
}

function base64Of(bytes: Buffer): string[] {
  const aligned = [0, 1, 2].map(before => {
    // Only the characters that no byte around the secret has a part in.
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6))
  })
  const whole = bytes.toString('base64')
  const wrapped = WRAPS.filter(columns => whole.length > columns).flatMap(columns => chunked(whole, columns))
  const all = [...aligned, ...wrapped]
  return [...all, ...all.map(text => text.replaceAll('+', '-').replaceAll('/', '_'))]
}

function chunked(text: string, columns: number): string[] {
  return Array.from({ length: Math.ceil(text.length / columns) }, (_, line) =>
    text.slice(line * columns, (line + 1) * columns),
  )
}

function hexOf(bytes: Buffer): string[] {
  const hex = bytes.toString('hex')
  return [hex, hex.toUpperCase()]
}

/** What encoders leave as it is differs: RFC 3986, `encodeURIComponent`, Python's `quote`, and forms. */
const UNRESERVED = [/[A-Za-z0-9._~-]/, /[A-Za-z0-9._~!'()*-]/, /[A-Za-z0-9._~/-]/, /[A-Za-z0-9*._-]/]

function percentOf(bytes: Buffer): string[] {
  return UNRESERVED.flatMap((kept, index) => {
    const encode = (byte: number) => {
      const character = String.fromCharCode(byte)
      if (kept.test(character)) return character
      if (byte === 0x20 && index === UNRESERVED.length - 1) return '+'
      return `%${byte.toString(16).padStart(2, '0').toUpperCase()}`
    }
    const text = [...bytes].map(encode).join('')
    return [text, text.replace(/%../g, escaped => escaped.toLowerCase())]
  })
}

function jsonOf(bytes: Buffer): string[] {
  const text = bytes.toString('utf8')
  if (!Buffer.from(text, 'utf8').equals(bytes)) return []
  const json = JSON.stringify(text).slice(1, -1)
  const ascii = json.replace(
    /[\u007f-\uffff]/g,
    unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return [json, ascii, json.replaceAll('/', '\\/'), ascii.replaceAll('/', '\\/')]
}
