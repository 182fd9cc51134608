import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GitLimits } from '../workspace/index.js'
import type { Order, Report } from './prepare-program.js'

const PROGRAM = fileURLToPath(new URL('./prepare-program.js', import.meta.url))

/**
 * A process of its own that prepares workspaces as a worker does, so that what a hostile server does to a worker can be
 * measured from outside: its memory, its event loop, its children, its disk.
 */
export class PrepareProcess {
  readonly dataDir: string
  readonly #root: string
  readonly #child: ChildProcess

  private constructor(root: string) {
    this.#root = root
    this.dataDir = join(root, 'data')
    this.#child = fork(PROGRAM, [this.dataDir], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
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

  /** Gives every workspace back. */
  async release(): Promise<void> {
    await this.#ask({ type: 'release' })
  }

  /** Everything below the data folder, as `path` or `path/`; the trees of whole snapshots are left out. */
  async onDisk(folder = ''): Promise<string[]> {
    const names = await readdir(join(this.dataDir, folder)).catch(() => [])
    const found: string[] = []
    for (const path of names.map(name => join(folder, name)).toSorted()) {
      const isFolder = (await lstat(join(this.dataDir, path))).isDirectory()
      found.push(isFolder ? `${path}/` : path)
      if (isFolder && !/^snapshots\/(?!staging)\w+\/[\w-]+\/repo$/.test(path)) {
        found.push(...(await this.onDisk(path)))
      }
    }
    return found
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
    const ended = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the process ended with ${code ?? signal}`)
    })
    ended.catch(() => undefined)
    this.#child.send(order)
    const [message] = await Promise.race([once(this.#child, 'message'), ended])
    const { answer, error } = message as { answer?: unknown; error?: string }
    if (error !== undefined) throw new Error(error)
    return answer
  }
}
