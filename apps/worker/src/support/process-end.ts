import { readFileSync } from 'node:fs'

/** The engine tells of an end some forty milliseconds after it, so this is soon enough. */
const LOOK_MS = 5

interface Watched {
  readonly pid: number
  resolve(): void
}

const watched = new Set<Watched>()
let timer: NodeJS.Timeout | undefined

/**
 * Resolves once a process of this machine has ended; to be asked while it lives. One timer looks at all of them, with one
 * call of the kernel each.
 *
 * @param signal aborts the looking; then it never resolves
 */
export function processEnd(pid: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) return
    const one = { pid, resolve }
    watched.add(one)
    signal.addEventListener('abort', () => forget(one), { once: true })
    timer ??= setInterval(look, LOOK_MS)
  })
}

/**
 * Whether a process is the first of a PID namespace below this one's: the kernel lets it end only when all others of its
 * namespace have.
 */
export function isInit(pid: number): boolean {
  try {
    const ids = /^NSpid:(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
    const numbers = ids?.trim().split(/\s+/) ?? []
    return numbers.length > 1 && numbers.at(-1) === '1'
  } catch {
    return false
  }
}

function look(): void {
  for (const one of watched) {
    if (lives(one.pid)) continue
    forget(one)
    one.resolve()
  }
}

function forget(one: Watched): void {
  watched.delete(one)
  if (watched.size > 0) return
  clearInterval(timer)
  timer = undefined
}

/** One that has ended lives until its parent has heard of that. */
function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
