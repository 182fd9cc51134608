const ALPHABET = Buffer.from(
  '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~',
)
/** By a letter's code; NONE for what is no letter. */
const VALUES = new Uint8Array(256).fill(255)
const NONE = 255
for (const [value, letter] of ALPHABET.entries()) VALUES[letter] = value
/** Bytes in a full line. */
const LINE = 52
const NEWLINE = 10

/** git's own base85, in lines that begin with the letter of their length. */
export function encodeLines(data: Buffer): string {
  const lines = Math.ceil(data.length / LINE)
  const last = data.length - Math.max(0, lines - 1) * LINE
  const groups = Math.max(0, lines - 1) * (LINE / 4) + Math.ceil(last / 4)
  const text = Buffer.allocUnsafe(lines * 2 + groups * 5)
  let to = 0
  for (let at = 0; at < data.length; at += LINE) {
    const end = Math.min(at + LINE, data.length)
    text[to++] = lengthLetter(end - at)
    for (let from = at; from < end; from += 4) {
      encodeGroup(data, from, end, text, to)
      to += 5
    }
    text[to++] = NEWLINE
  }
  return text.toString('latin1')
}

function lengthLetter(length: number): number {
  return length <= 26 ? 64 + length : 96 + length - 26
}

/** Four bytes as five letters; what is missing of them counts as zero. */
function encodeGroup(data: Buffer, from: number, end: number, text: Buffer, to: number): void {
  let value = 0
  for (let byte = from; byte < from + 4; byte += 1) value = value * 256 + (byte < end ? (data[byte] ?? 0) : 0)
  for (let digit = to + 4; digit >= to; digit -= 1) {
    const rest = Math.floor(value / 85)
    text[digit] = ALPHABET[value - rest * 85] ?? 0
    value = rest
  }
}

/** One line's bytes. @throws Error when it is not well-formed */
export function decodeLine(line: string): Buffer {
  const first = line.charCodeAt(0)
  const length = first >= 97 ? first - 96 + 26 : first - 64
  const groups = Math.ceil(length / 4)
  if (!(length >= 1 && length <= LINE) || line.length - 1 !== groups * 5)
    throw new Error('a binary line is broken')
  const bytes = Buffer.allocUnsafe(groups * 4)
  for (let group = 0; group < groups; group += 1) {
    let value = 0
    for (let at = 1 + group * 5; at < 6 + group * 5; at += 1) {
      const digit = VALUES[line.charCodeAt(at)] ?? NONE
      if (digit === NONE) throw new Error('a binary line holds a strange letter')
      value = value * 85 + digit
    }
    if (value > 0xffffffff) throw new Error('a binary line overflows')
    bytes.writeUInt32BE(value, group * 4)
  }
  return bytes.subarray(0, length)
}
