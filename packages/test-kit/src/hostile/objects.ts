import { createHash } from 'node:crypto'

export type ObjectType = 'commit' | 'tree' | 'blob' | 'tag'

/** A git object and the id that its content has. */
export interface RawObject {
  readonly type: ObjectType
  readonly data: Buffer
  readonly oid: string
}

/** An entry of a tree as its bytes say it; nothing is checked, and names are latin1: one character per byte. */
export interface RawEntry {
  readonly mode: string
  readonly name: string
  readonly oid: string
}

export function rawObject(type: ObjectType, data: Uint8Array | string): RawObject {
  const bytes = Buffer.from(data)
  const oid = createHash('sha1').update(`${type} ${bytes.length}\0`).update(bytes).digest('hex')
  return { type, data: bytes, oid }
}

export const rawBlob = (content: Uint8Array | string): RawObject => rawObject('blob', content)

/** A tree of these entries, in this order. */
export function rawTree(entries: readonly RawEntry[]): RawObject {
  const parts = entries.flatMap(({ mode, name, oid }) => [
    Buffer.from(`${mode} ${name}\0`, 'latin1'),
    Buffer.from(oid, 'hex'),
  ])
  return rawObject('tree', Buffer.concat(parts))
}

const PERSON = 'Test <test@example.com> 1700000000 +0000'

/** A commit without parents. */
export function rawCommit(tree: string, message = 'first'): RawObject {
  return rawObject('commit', `tree ${tree}\nauthor ${PERSON}\ncommitter ${PERSON}\n\n${message}\n`)
}

export function rawTag(target: Pick<RawObject, 'oid' | 'type'>, name: string): RawObject {
  const head = `object ${target.oid}\ntype ${target.type}\ntag ${name}\ntagger ${PERSON}\n`
  return rawObject('tag', `${head}\n${name}\n`)
}
