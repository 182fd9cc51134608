/** Who made a commit, and when. */
export interface Signature {
  readonly name: string
  readonly email: string
  /** In seconds since 1970. */
  readonly at: number
}

export interface NewCommit {
  readonly tree: string
  readonly parents: readonly string[]
  /** Author and committer in one. */
  readonly by: Signature
  readonly message: string
}

/** What git takes off both ends of a name and an address. */
const CRUD = /^[\s.,:;<>"\\']+|[\s.,:;<>"\\']+$/g
/** What would end or break a line. */
const NO_TEXT = /[<>\p{Cc}]/gu

/** A commit's bytes. The same of everything gives the same commit, whoever makes it and when. */
export function renderCommit({ tree, parents, by, message }: NewCommit): Buffer {
  const person = `${clean(by.name)} <${clean(by.email)}> ${by.at} +0000`
  const head = [`tree ${tree}`, ...parents.map(parent => `parent ${parent}`)]
  const text = message.replaceAll('\0', '').trim()
  return Buffer.from([...head, `author ${person}`, `committer ${person}`, '', `${text}\n`].join('\n'))
}

/** As git would write a name, unless nothing would be left of it. */
function clean(text: string): string {
  const plain = text.replace(NO_TEXT, '')
  return plain.replace(CRUD, '') || plain
}
