import { readdir, readFile } from 'node:fs/promises'

export interface ProcessInfo {
  readonly pid: number
  /** Its arguments, the program first. */
  readonly argv: readonly string[]
  /** Its environment when it was started, as `NAME=value`. */
  readonly environ: readonly string[]
}

/** A process of this machine and all that descend from it, by what Linux shows of them; those that end meanwhile are left out. */
export async function processTree(root: number): Promise<ProcessInfo[]> {
  const parents = new Map<number, number>()
  for (const name of await readdir('/proc')) {
    const parent = /^\d+$/.test(name) ? await parentOf(Number(name)) : null
    if (parent !== null) parents.set(Number(name), parent)
  }
  const isBelow = (pid: number | undefined): boolean =>
    pid !== undefined && (pid === root || isBelow(parents.get(pid)))
  const found = await Promise.all([...parents.keys()].filter(isBelow).map(readProcess))
  return found.filter(one => one !== null)
}

async function parentOf(pid: number): Promise<number | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null)
  // The name stands in parentheses and may hold anything.
  return text === null ? null : Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1])
}

async function readProcess(pid: number): Promise<ProcessInfo | null> {
  try {
    const [argv, environ] = await Promise.all(
      ['cmdline', 'environ'].map(async name => {
        const text = await readFile(`/proc/${pid}/${name}`, 'utf8')
        return text.split('\0').filter(part => part !== '')
      }),
    )
    return { pid, argv: argv ?? [], environ: environ ?? [] }
  } catch {
    return null
  }
}
