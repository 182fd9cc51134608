import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs'

const CHUNK_BYTES = 2 ** 20

export interface BundleOptions {
  /** Of the bundle; made, or overwritten. */
  readonly path: string
  /** The pack to put into it. */
  readonly pack: string
  /** What whoever reads it must have; null for nothing. */
  readonly prerequisite: string | null
  /** Full names of refs, and the commits that they are at. */
  readonly refs: readonly (readonly [string, string])[]
}

/** Writes a git bundle of version 2: `git fetch FILE` takes what it names, `git bundle verify FILE` checks it. */
export function writeBundle({ path, pack, prerequisite, refs }: BundleOptions): {
  sizeBytes: number
  sha256: string
} {
  const needed = prerequisite === null ? [] : [`-${prerequisite} \n`]
  const head = ['# v2 git bundle\n', ...needed, ...refs.map(([name, oid]) => `${oid} ${name}\n`), '\n'].join(
    '',
  )
  rmSync(path, { force: true })
  const to = openSync(path, 'wx', 0o600)
  const hash = createHash('sha256')
  let sizeBytes = 0
  const put = (bytes: Buffer) => {
    hash.update(bytes)
    sizeBytes += bytes.length
    for (let done = 0; done < bytes.length; ) done += writeSync(to, bytes, done)
  }
  try {
    put(Buffer.from(head))
    readThrough(pack, put)
    return { sizeBytes, sha256: hash.digest('hex') }
  } finally {
    closeSync(to)
  }
}

function readThrough(path: string, put: (bytes: Buffer) => void): void {
  const from = openSync(path, 'r')
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
  try {
    for (let count = readSync(from, chunk); count > 0; count = readSync(from, chunk))
      put(chunk.subarray(0, count))
  } finally {
    closeSync(from)
  }
}
