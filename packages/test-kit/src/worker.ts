import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { WORKER_NODE_ARGUMENTS } from '@agirunner/contracts'

export interface TestWorkerOptions {
  readonly redisUrl: string
  readonly queue: string
  readonly dataDir: string
  /** More variables for it, such as AGIRUNNER_CONCURRENCY. */
  readonly env?: Readonly<Record<string, string>>
  /** A command that starts the worker's own, such as `['unshare', '-m', …]`; it must become it by `exec`. */
  readonly by?: readonly string[]
  /** How long it may take to be ready, in milliseconds; 60 s by default. */
  readonly within?: number
}

export interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface TestWorker {
  readonly pid: number
  /** The id that its containers bear as `agirunner.worker`. */
  readonly id: string
  /** How it gives workspaces to containers, such as `overlay_volume`. */
  readonly strategy: string
  /** Where it answers /healthz, /readyz and /metrics. */
  readonly http: string | null
  readonly exited: Promise<WorkerExit>
  kill(signal: NodeJS.Signals): void
  /** Asks it to drain, and waits. */
  stop(): Promise<WorkerExit>
  /** Everything that it has written so far, both streams. */
  log(): string
}

/** By its path, because the test-kit serves the worker's own tests and must not depend on it. */
const WORKER = fileURLToPath(new URL('../../../apps/worker/dist/main.js', import.meta.url))
/** What the worker may know of the test's environment: how to find programs and the engine. */
const PASSED_ON = /^(PATH|HOME|TMPDIR|LANG|DOCKER_.*)$/

/**
 * Starts a real worker process and waits until it is ready. It ends by itself when the test process does.
 *
 * @throws Error with the worker's log when it ends, or the time is up, before it is ready
 */
export async function startWorker({
  redisUrl,
  queue,
  dataDir,
  env = {},
  by = [],
  within = 60_000,
}: TestWorkerOptions): Promise<TestWorker> {
  const passedOn = Object.entries(process.env).filter(([name]) => PASSED_ON.test(name))
  const [program, ...args] = [...by, process.execPath, ...WORKER_NODE_ARGUMENTS, WORKER]
  const child = spawn(program, args, {
    env: {
      ...Object.fromEntries(passedOn),
      REDIS_URL: redisUrl,
      AGIRUNNER_QUEUE: queue,
      AGIRUNNER_DATA: dataDir,
      // Results are the same with it; it is off so that a test sees only what it started.
      AGIRUNNER_PARK: process.env.AGIRUNNER_PARK ?? '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const log = collect(child)
  const exited = (once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>).then(
    ([code, signal]) => ({ code, signal }),
  )
  const ready = await waitForReady(child, exited, within).catch((error: unknown) => {
    child.kill('SIGKILL')
    throw new Error(`the worker did not start: ${String(error)}\n${log()}`, { cause: error })
  })
  return {
    pid: child.pid ?? 0,
    ...ready,
    exited,
    kill: signal => void child.kill(signal),
    stop: () => {
      child.kill('SIGTERM')
      return exited
    },
    log,
  }
}

function collect(child: ChildProcess): () => string {
  const chunks: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => chunks.push(chunk))
  return () => Buffer.concat(chunks).toString('utf8')
}

type Ready = { readonly type: 'ready' } & Pick<TestWorker, 'id' | 'strategy' | 'http'>

async function waitForReady(
  child: ChildProcess,
  exited: Promise<WorkerExit>,
  within: number,
): Promise<Pick<TestWorker, 'id' | 'strategy' | 'http'>> {
  const late = AbortSignal.timeout(within)
  const first = await Promise.race([once(child, 'message', { signal: late }), exited])
  if (!Array.isArray(first)) throw new Error(`it ended with ${first.code ?? first.signal}`)
  const message: unknown = first[0]
  if (!isReady(message)) throw new Error(`it said ${JSON.stringify(message)} instead of being ready`)
  return { id: message.id, strategy: message.strategy, http: message.http }
}

function isReady(message: unknown): message is Ready {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === 'ready'
}
