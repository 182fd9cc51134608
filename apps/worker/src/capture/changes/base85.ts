const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~'
const VALUES = new Map(Array.from(ALPHABET, (letter, value) => [letter, value]))
/** Bytes in a full line. */
const LINE = 52

/** git's own base85, in lines that begin with the letter of their length. */
export function encodeLines(data: Buffer): string {
  const lines: string[] = []
  for (let at = 0; at < data.length; at += LINE) {
    const part = data.subarray(at, at + LINE)
    lines.push(lengthLetter(part.length) + encode(part), '\n')
  }
  return lines.join('')
}

function lengthLetter(length: number): string {
  return String.fromCharCode(length <= 26 ? 64 + length : 96 + length - 26)
}

function encode(part: Buffer): string {
  let text = ''
  for (let at = 0; at < part.length; at += 4) {
    let value = 0
    for (let byte = 0; byte < 4; byte += 1) value = value * 256 + (part[at + byte] ?? 0)
    let group = ''
    for (let digit = 0; digit < 5; digit += 1) {
      group = ALPHABET.charAt(value % 85) + group
      value = Math.floor(value / 85)
    }
    text += group
  }
  return text
}

/** One line's bytes. @throws Error when it is not well-formed */
export function decodeLine(line: string): Buffer {
  const first = line.charCodeAt(0)
  const length = first >= 97 ? first - 96 + 26 : first - 64
  const digits = line.slice(1)
  if (length < 1 || length > LINE || digits.length !== Math.ceil(length / 4) * 5)
    throw new Error('a binary line is broken')
  const bytes: number[] = []
  for (let at = 0; at < digits.length; at += 5) {
    let value = 0
    for (const letter of digits.slice(at, at + 5)) {
      const digit = VALUES.get(letter)
      if (digit === undefined) throw new Error('a binary line holds a strange letter')
      value = value * 85 + digit
    }
    if (value > 0xffffffff) throw new Error('a binary line overflows')
    bytes.push(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255)
  }
  return Buffer.from(bytes.slice(0, length))
}
