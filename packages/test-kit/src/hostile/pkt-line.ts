export const FLUSH = Buffer.from('0000')

/** A pkt-line. @param said the length that its head tells, in hex; the truth by default */
export function pktLine(content: Uint8Array | string, said?: string): Buffer {
  const bytes = Buffer.from(content)
  const length = said ?? (bytes.length + 4).toString(16).padStart(4, '0')
  return Buffer.concat([Buffer.from(length), bytes])
}

export const BAND = { pack: 1, progress: 2, error: 3 } as const
/** What one line of side-band-64k carries. */
const MAX_BAND_BYTES = 65_515

export function bandLine(band: (typeof BAND)[keyof typeof BAND], content: Uint8Array | string): Buffer {
  return pktLine(Buffer.concat([Buffer.from([band]), Buffer.from(content)]))
}

/** A pack as lines of the first band. */
export function* bandLines(pack: Buffer): Generator<Buffer> {
  for (let at = 0; at < pack.length; at += MAX_BAND_BYTES) {
    yield bandLine(BAND.pack, pack.subarray(at, at + MAX_BAND_BYTES))
  }
}
