/** Reads a small plain file below a work tree, reached through folders alone; null where there is no such. */
export type ReadPlain = (path: string, maxBytes: number) => string | null

const MAX_REF_BYTES = 4096
const MAX_REFS_BYTES = 16 * 2 ** 20
const MAX_HOPS = 10
const SHA = /^[0-9a-f]{40}$/

/**
 * The commit that HEAD of a work tree's `.git` names; null for a branch without one. Reads names only, so that a `.git`
 * that nobody trusts can be asked.
 *
 * @param read paths as latin1
 * @throws Error when HEAD is missing or makes no sense
 */
export function readHead(read: ReadPlain): string | null {
  const head = readRef(read, 'HEAD')
  if (head === null) throw new Error('.git/HEAD is missing or no plain file')
  let text: string = head
  for (let hops = 0; hops < MAX_HOPS; hops += 1) {
    if (SHA.test(text)) return text
    const name: string | undefined = /^ref: (refs\/.+)$/.exec(text)?.[1]
    if (name === undefined || name.split('/').some(part => part === '' || part === '.' || part === '..'))
      break
    const next: string | null = readRef(read, name) ?? readPacked(read, name)
    if (next === null) return null
    text = next
  }
  throw new Error('HEAD names no commit')
}

function readRef(read: ReadPlain, name: string): string | null {
  return read(`.git/${Buffer.from(name).toString('latin1')}`, MAX_REF_BYTES)?.trim() ?? null
}

function readPacked(read: ReadPlain, name: string): string | null {
  const lines = read('.git/packed-refs', MAX_REFS_BYTES)?.split('\n') ?? []
  return lines.find(line => line.slice(41) === name)?.slice(0, 40) ?? null
}
