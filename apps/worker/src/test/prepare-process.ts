import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { GitLimits } from '../workspace/index.js'
import type { Order, Report } from './prepare-program.js'

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('./prepare-program.js', import.meta.url))

const STAYS = [
  /^snapshots\/[0-9a-f]{32}\/[^/]+\/(repo\/|meta\.json$)/s,
  /^repositories\/[0-9a-f]{32}\/(HEAD|config|meta\.json)$/,
]
const CACHED = [/^repositories\/[0-9a-f]{32}\/(objects\/pack|fetched)\/[\w-]+\.(pack|idx|json)$/]

/**
 * A process of its own that prepares workspaces as a worker does, so that what a hostile server does to a worker can be
 * measured from outside: its memory, its event loop, its children, its disk.
 */
export class PrepareProcess {
  readonly dataDir: string
  readonly #root: string
  readonly #child: ChildProcess
  readonly #exited: Promise<never>

  private constructor(root: string) {
    this.#root = root
    this.dataDir = join(root, 'data')
    this.#child = fork(PROGRAM, [this.dataDir], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#exited = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the process ended with ${code ?? signal}`)
    })
    this.#exited.catch(() => undefined)
  }

  /** Starts it and lets it prepare `url` twice, once in vain: what a process needs once is not counted later. */
  static async start(url: string, limits: Partial<GitLimits>): Promise<PrepareProcess> {
    const started = new PrepareProcess(await mkdtemp('/var/tmp/agirunner-hostile-'))
    await started.prepare({ url, ref: 'main' }, limits)
    await started.prepare({ url, ref: 'nope' }, limits)
    await started.release()
    return started
  }

  async prepare(
    source: Record<string, unknown>,
    limits: Partial<GitLimits>,
    { allowPrivate = true } = {},
  ): Promise<Report> {
    return (await this.#ask({ type: 'prepare', source, limits, allowPrivate })) as Report
  }

  /** A report on something bad that the process does by itself. */
  async burden(): Promise<Report> {
    return (await this.#ask({ type: 'burden' })) as Report
  }

  /** Gives every workspace back. */
  async release(): Promise<void> {
    await this.#ask({ type: 'release' })
  }

  /**
   * Every file and link below the data folder, relative to it, but what is meant to stay: whole snapshots, and what a
   * bare repository of the cache is made of.
   *
   * @param cached whether packs may stay as well: one that was whole is kept whatever its objects turn out to be
   * @returns paths in latin1: a name is any bytes
   */
  async onDisk(cached: boolean): Promise<string[]> {
    const { stdout } = await run('find', [this.dataDir, '!', '-type', 'd', '-printf', '%P\\0'], {
      encoding: 'latin1',
      maxBuffer: 2 ** 26,
    })
    const stays = cached ? [...STAYS, ...CACHED] : STAYS
    return stdout
      .split('\0')
      .filter(path => path !== '' && !stays.some(pattern => pattern.test(path)))
      .toSorted()
  }

  /** @returns the pids of children that are left when all rooms are closed */
  async close(): Promise<readonly number[]> {
    const left = (await this.#ask({ type: 'close' })) as readonly number[]
    const exited = once(this.#child, 'exit')
    this.#child.disconnect()
    await exited
    await rm(this.#root, { recursive: true, force: true })
    return left
  }

  async #ask(order: Order): Promise<unknown> {
    this.#child.send(order)
    const [message] = await Promise.race([once(this.#child, 'message'), this.#exited])
    const { answer, error } = message as { answer?: unknown; error?: string }
    if (error !== undefined) throw new Error(error)
    return answer
  }
}
