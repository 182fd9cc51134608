import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WORKER_NODE_ARGUMENTS } from '@agirunner/contracts'
import { setUp } from '@agirunner/setup'
import { CliError, EXIT } from '../errors.js'
import { maskUrl } from '../output.js'
import type { Env, Settings } from '../settings.js'
import { Child, type ChildOptions } from './child.js'
import { RedisKeeper } from './redis-keeper.js'
import { removeUp, type UpRecord, writeUp } from './up-file.js'

export interface RuntimeOptions {
  readonly settings: Settings
  /** How many tasks run at once; null leaves it to the worker. */
  readonly concurrency: number | null
  /** The board's port; 0 for a free one. */
  readonly port: number
  readonly print: (line: string) => void
}

/** Everything that `agirunner up` runs, and the order in which it comes and goes. */
export class Runtime {
  readonly #options: RuntimeOptions
  /** What is to be stopped, last started first. */
  readonly #stops: (() => Promise<void>)[] = []
  #worker: { child: Child; pid: number; id: string; strategy: string; http: string | null } | null = null
  #board: { pid: number; url: string; user: string; password: string | null } | null = null
  #environment: { redisUrl: string; dockerHost: string; dataDir: string } | null = null
  #isReady = false
  #shownPassword: string | null = null

  constructor(options: RuntimeOptions) {
    this.#options = options
  }

  /** Resolves when tasks can be run. @throws SetupError, CliError; `stop` is to be called then too */
  async start(signal: AbortSignal): Promise<void> {
    const environment = await this.#setUp(signal)
    this.#keepRedis(environment)
    await Promise.all([this.#startWorker(signal), this.#startBoard(signal)])
    this.#isReady = true
    this.#announce()
  }

  /** For impatient people: the second request gives running tasks back, the third kills. */
  hurry(count: number): void {
    const child = this.#worker?.child
    this.#say(count === 2 ? 'giving the running tasks back to the queue' : 'killing the worker')
    child?.kill(count === 2 ? 'SIGTERM' : 'SIGKILL')
  }

  /** Drains and stops everything that was started; all of it is tried. */
  async stop(): Promise<void> {
    if (this.#worker) this.#say('stopping: running tasks may end, new ones stay in the queue')
    for (let stop = this.#stops.pop(); stop; stop = this.#stops.pop()) {
      await stop().catch((error: unknown) => this.#say(`stopping: ${(error as Error).message}`))
    }
    if (this.#isReady) {
      removeUp(this.#options.settings.dataDir)
      this.#say('stopped')
    }
  }

  async #setUp(signal: AbortSignal): Promise<{ redisUrl: string; dockerHost: string; dataDir: string }> {
    const { settings, print } = this.#options
    const found = await setUp({
      root: ROOT,
      env: settings.env,
      log: print,
      needs: ['engine', 'redis', 'image'],
      signal,
    })
    this.#stops.push(found.stop)
    const { redisUrl, dockerHost, dataDir } = found
    if (!redisUrl || !dockerHost) {
      throw new CliError(
        'the set-up is not complete; Redis or an engine is missing; see the lines above',
        EXIT.infrastructure,
      )
    }
    this.#environment = { redisUrl, dockerHost, dataDir }
    return this.#environment
  }

  #keepRedis({ redisUrl, dataDir }: { redisUrl: string; dataDir: string }): void {
    const { env } = this.#options.settings
    if (env.REDIS_URL) return
    const { print } = this.#options
    const keeper = new RedisKeeper({ url: redisUrl, dataDir, env, log: print, say: text => this.#say(text) })
    this.#stops.push(() => keeper.close())
  }

  async #startWorker(signal: AbortSignal): Promise<void> {
    const child: Child = this.#child(
      'worker',
      '@agirunner/worker',
      WORKER_NODE_ARGUMENTS,
      (pid, { id, strategy, http }) => {
        const url = typeof http === 'string' ? http : null
        this.#worker = { child, pid, id: String(id), strategy: String(strategy), http: url }
        this.#announceAgain()
      },
    )
    this.#stops.push(() => child.stop())
    await child.start(signal)
  }

  async #startBoard(signal: AbortSignal): Promise<void> {
    const child = this.#child('board', '@agirunner/board', [], (pid, { url, user, password }) => {
      this.#board = {
        pid,
        url: String(url),
        user: String(user),
        password: typeof password === 'string' ? password : null,
      }
      this.#announceAgain()
    })
    this.#stops.push(() => child.stop())
    await child.start(signal)
  }

  #child(
    name: string,
    module: string,
    nodeArguments: readonly string[],
    onReady: ChildOptions['onReady'],
  ): Child {
    const { dataDir } = this.#options.settings
    return new Child({
      name,
      program: fileURLToPath(new URL('./main.js', import.meta.resolve(module))),
      nodeArguments,
      env: () => this.#childEnv(),
      logFile: join(dataDir, 'log', `${name}.log`),
      say: text => this.#say(text),
      onReady,
    })
  }

  #childEnv(): Env {
    const { settings, concurrency, port } = this.#options
    const { env, dataDir, queue } = settings
    return {
      ...env,
      REDIS_URL: this.#environment?.redisUrl,
      DOCKER_HOST: this.#environment?.dockerHost,
      AGIRUNNER_DATA: dataDir,
      AGIRUNNER_QUEUE: queue,
      // A board that comes back keeps its address.
      AGIRUNNER_BOARD_PORT: this.#board ? new URL(this.#board.url).port : String(port),
      ...(concurrency === null ? {} : { AGIRUNNER_CONCURRENCY: String(concurrency) }),
    }
  }

  #announceAgain(): void {
    if (this.#isReady) this.#announce()
  }

  #announce(): void {
    const record = this.#record()
    if (!record || !this.#worker) return
    const { settings, print } = this.#options
    writeUp(settings.dataDir, record)
    const { redisUrl, board, queue } = record
    if (board.password && board.password !== this.#shownPassword) {
      print(`board login: user ${board.user}, password ${board.password}`)
      this.#shownPassword = board.password
    }
    print(
      `ready redis=${maskUrl(redisUrl)} board=${board.url} worker=${record.worker.id} queue=${queue} ` +
        `workspaces=${this.#worker.strategy} metrics=${this.#worker.http ?? 'off'} data=${settings.dataDir}`,
    )
    process.send?.({ type: 'ready', ...record })
  }

  #record(): UpRecord | null {
    if (!this.#environment || !this.#worker || !this.#board) return null
    const { redisUrl, dockerHost } = this.#environment
    const { pid, id } = this.#worker
    return {
      version: 1,
      pid: process.pid,
      redisUrl,
      dockerHost,
      queue: this.#options.settings.queue,
      worker: { pid, id },
      board: this.#board,
    }
  }

  #say(text: string): void {
    this.#options.print(`agirunner: ${text}`)
  }
}

/** The checkout's root. */
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))
