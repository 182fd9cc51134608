import { randomBytes } from 'node:crypto'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type Artifact,
  type Capability,
  type Changes,
  type LogSummary,
  TaskFailure,
} from '@agirunner/contracts'
import { attemptFolder, expiryKey, type ObjectStore, StorageError } from '@agirunner/storage'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { DAY_MS, expiryOf, writeExpiry } from './artifacts/folder.js'

/** What of an attempt's outputs says where something is stored. */
interface Left {
  readonly logs: LogSummary
  readonly changes: Changes | null
  readonly artifacts: readonly Artifact[]
}

/** Where stays what attempts leave. Until an attempt is sealed, that is a folder on the worker's disk. */
export interface AttemptStorage {
  /** Whether it stays in the attempt's folder. */
  readonly isLocal: boolean

  /**
   * Puts what lies in a sealed attempt's folder where it stays, for as long as `capture.retention` says. What comes back
   * names where that is; nothing that it names is missing.
   *
   * @throws TaskFailure `capture.failed`; the signal's reason when that aborted
   */
  publish<T extends Left>(accepted: AcceptedTask, folder: string, left: T, signal: AbortSignal): Promise<T>

  /** Whether it works, as far as is known. */
  capability(): Capability
}

const CAPABILITY = 'artifact storage'

export const LOCAL_STORAGE: AttemptStorage = {
  isLocal: true,
  async publish({ task }, folder, left) {
    await writeExpiry(folder, expiryOf(task.capture.retention))
    return left
  },
  capability: () => ({
    name: CAPABILITY,
    state: 'enforced',
    detail: "artifacts stay in AGIRUNNER_DATA, on this worker's disk",
    fix: null,
  }),
}

/** A bucket: each attempt has a folder of its own there, which goes at the time that a marker tells the sweeper. */
export class BucketStorage implements AttemptStorage {
  readonly isLocal = false
  readonly #store: ObjectStore
  #failure: StorageError | null = null

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /** Tries whether the bucket can be used, for `capability`. */
  async check(name: string): Promise<void> {
    await this.#noting(this.#store.check(name)).catch(() => undefined)
  }

  async publish<T extends Left>(
    accepted: AcceptedTask,
    folder: string,
    left: T,
    signal: AbortSignal,
  ): Promise<T> {
    const { task, fence } = accepted
    const nonce = randomBytes(4).toString('hex')
    const target = attemptFolder({ ...task, fence, nonce })
    try {
      return await this.#noting(this.#publish(task.capture.retention, { folder, target }, left, signal))
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof StorageError)) throw error
      const { message, hint } = error
      throw new TaskFailure('capture.failed', message, { phase: 'capture', hint, cause: error })
    }
  }

  capability(): Capability {
    const where = this.#store.describe()
    const failure = this.#failure
    if (failure === null)
      return { name: CAPABILITY, state: 'enforced', detail: `artifacts go to ${where}`, fix: null }
    const detail = `${where}: ${failure.message}; tasks end with capture.failed`
    return { name: CAPABILITY, state: 'missing', detail, fix: failure.hint }
  }

  async #publish<T extends Left>(
    retention: string,
    { folder, target }: { folder: string; target: string },
    left: T,
    signal: AbortSignal,
  ): Promise<T> {
    // Before the first byte: what a dead worker leaves goes too.
    await this.#store.write(expiryKey({ ...expiryIn(retention), folder: target }), '')
    const uris = new Map<string, string>()
    await allOrNone(filesOf(left), signal, async ({ uri, sha256 }, inner) => {
      const path = fileURLToPath(uri)
      const key = target + relative(folder, path)
      await this.#store.put(key, { path, sha256 }, inner)
      uris.set(uri, this.#store.uriOf(key))
    })
    return renamed(left, uris)
  }

  async #noting<T>(work: Promise<T>): Promise<T> {
    try {
      const done = await work
      this.#failure = null
      return done
    } catch (error) {
      if (error instanceof StorageError) this.#failure = error
      throw error
    }
  }
}

/** What is kept forever has a marker for a day, by which it goes unless a result names it. */
function expiryIn(retention: string): { at: Date; unless: 'nothing' | 'named' } {
  const at = expiryOf(retention)
  return at === null ? { at: new Date(Date.now() + DAY_MS), unless: 'named' } : { at, unless: 'nothing' }
}

interface File {
  readonly uri: string
  readonly sha256: string | null
}

function filesOf({ logs, changes, artifacts }: Left): File[] {
  const log: File[] = logs.uri === null ? [] : [{ uri: logs.uri, sha256: null }]
  const ofChanges = [changes?.patch, changes?.bundle].flatMap(file => file ?? [])
  return [...log, ...ofChanges, ...artifacts]
}

function renamed<T extends Left>(left: T, uris: ReadonlyMap<string, string>): T {
  const at = <F extends { readonly uri: string }>(file: F): F => ({ ...file, uri: uris.get(file.uri) ?? '' })
  const { logs, changes, artifacts } = left
  return {
    ...left,
    logs: { ...logs, uri: logs.uri === null ? null : (uris.get(logs.uri) ?? null) },
    changes: changes && {
      ...changes,
      patch: changes.patch && at(changes.patch),
      bundle: changes.bundle && at(changes.bundle),
    },
    artifacts: artifacts.map(at),
  }
}

/** Does it for all of them at once; the first failure ends the others, and is thrown when they have ended. */
async function allOrNone<I>(
  items: readonly I[],
  signal: AbortSignal,
  work: (item: I, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController()
  const inner = AbortSignal.any([signal, stop.signal])
  const done = await Promise.allSettled(
    items.map(item =>
      work(item, inner).catch((error: unknown) => {
        stop.abort(error)
        throw error
      }),
    ),
  )
  signal.throwIfAborted()
  if (stop.signal.aborted) throw stop.signal.reason
  const failed = done.find(one => one.status === 'rejected')
  if (failed) throw failed.reason
}
