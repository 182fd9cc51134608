/** A word of memory: a number, or the address of the program's data. */
export type Word = number | 'data'

const BASE = 0x0804_8000
const HEADERS = 52 + 32
/** `mov` of a constant to EBX, ECX and EDX. */
const MOVES = [0xbb, 0xb9, 0xba] as const

/**
 * A whole 32-bit x86 program, as a file, that makes one system call and exits with 0 when it succeeds, else with the
 * error's number. Written by hand, because no image has a 32-bit compiler.
 *
 * @param args at most three
 * @param data 32-bit words that the call may be pointed to
 */
export function elf32(call: number, args: readonly Word[], data: readonly number[] = []): Buffer {
  const length = 5 + 5 * args.length + CALL_AND_EXIT.length
  const address = BASE + HEADERS + length
  const code = Buffer.concat([
    move(0xb8, call),
    ...args.map((arg, index) => move(MOVES[index] ?? 0, arg === 'data' ? address : arg)),
    CALL_AND_EXIT,
    ...data.map(word),
  ])
  return Buffer.concat([fileHeader(), programHeader(HEADERS + code.length), code])
}

/** int 0x80; test eax,eax; jns +2 (to xor); neg eax; jmp +2; xor eax,eax; mov ebx,eax; mov eax,1; int 0x80 */
const CALL_AND_EXIT = Buffer.from('cd8085c07904f7d8eb0231c089c3b801000000cd80', 'hex')

function move(opcode: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([opcode]), word(value)])
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}

const half = (value: number) => Buffer.from([value & 0xff, value >> 8])

/** EI_CLASS 1 is 32 bits, EI_DATA 1 little endian, e_type 2 a program, e_machine 3 the 386. */
function fileHeader(): Buffer {
  const ident = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, ...Array<number>(9).fill(0)])
  const words = [1, BASE + HEADERS, 52, 0, 0].map(word)
  return Buffer.concat([ident, half(2), half(3), ...words, ...[52, 32, 1, 40, 0, 0].map(half)])
}

/** One segment that is the whole file, readable, writable and executable. */
function programHeader(size: number): Buffer {
  return Buffer.concat([1, 0, BASE, BASE, size, size, 7, 4096].map(word))
}
