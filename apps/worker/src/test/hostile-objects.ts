import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'

/** Writes a loose object under its own name, or another. @returns the name */
export function writeLoose(repo: string, type: string, data: Buffer, name?: string): string {
  const raw = Buffer.concat([Buffer.from(`${type} ${data.length}\0`), data])
  const oid = name ?? createHash('sha1').update(raw).digest('hex')
  const folder = join(repo, '.git/objects', oid.slice(0, 2))
  mkdirSync(folder, { recursive: true })
  const path = join(folder, oid.slice(2))
  if (existsSync(path)) chmodSync(path, 0o644)
  rmSync(path, { force: true })
  writeFileSync(path, deflateSync(raw))
  return oid
}

export function treeEntry(mode: string, name: string, oid: string): Buffer {
  return Buffer.concat([Buffer.from(`${mode} ${name}\0`, 'latin1'), Buffer.from(oid, 'hex')])
}

/** A commit's bytes; what is given replaces the usual. */
export function commitOf(
  tree: string,
  parent: string,
  person = 'Eve <eve@example.com> 1700000000 +0000',
): Buffer {
  return Buffer.from(`tree ${tree}\nparent ${parent}\nauthor ${person}\ncommitter ${person}\n\nwork\n`)
}

const REF_DELTA = 7

/** A pack of two objects, each a delta on the other, with an index that has them under the names given. */
export function writeCycle(repo: string, one: string, other: string): void {
  const [first = '', second = ''] = [one, other].sort()
  const entry = (base: string) => {
    const delta = Buffer.from([10, 10, 0x90, 10])
    const head = Buffer.from([(REF_DELTA << 4) | delta.length])
    return Buffer.concat([head, Buffer.from(base, 'hex'), deflateSync(delta)])
  }
  const entries = [entry(second), entry(first)]
  const head = Buffer.from('PACK\0\0\0\x02\0\0\0\x02', 'latin1')
  const body = Buffer.concat([head, ...entries])
  const trailer = createHash('sha1').update(body).digest()
  const fanout = Buffer.alloc(256 * 4)
  for (let byte = 0; byte < 256; byte += 1)
    fanout.writeUInt32BE(
      [first, second].filter(oid => Number.parseInt(oid.slice(0, 2), 16) <= byte).length,
      byte * 4,
    )
  const number = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes
  }
  const index = Buffer.concat([
    Buffer.from('ff744f6300000002', 'hex'),
    fanout,
    Buffer.from(first + second, 'hex'),
    ...entries.map(one => number(crc32(one))),
    number(head.length),
    number(head.length + (entries[0]?.length ?? 0)),
    trailer,
  ])
  const path = join(repo, '.git/objects/pack', `pack-${trailer.toString('hex')}`)
  writeFileSync(`${path}.pack`, Buffer.concat([body, trailer]))
  writeFileSync(`${path}.idx`, Buffer.concat([index, createHash('sha1').update(index).digest()]))
}
