import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { type ArtifactsSource, TaskFailure } from '@agirunner/contracts'
import type { Placing } from '../files.js'
import type { EarlierArtifact, EarlierArtifacts } from './earlier-artifacts.js'
import type { Watch } from './sourced.js'

const KEY = 'workspace.source.artifacts'

/** Artifacts of earlier tasks, as files to be put into a workspace. */
export class ArtifactSeeds {
  readonly #earlier: EarlierArtifacts
  readonly #maxBytes: number

  /** @param maxBytes of all artifacts of one workspace together */
  constructor(earlier: EarlierArtifacts, maxBytes: number) {
    this.#earlier = earlier
    this.#maxBytes = maxBytes
  }

  /**
   * Looks all of them up before any is copied. Each is checked against its task's result while it is written.
   *
   * @throws TaskFailure `workspace.not_found`; from writing, `workspace.too_large` and `workspace.remote_broken` too
   */
  async take(tenantId: string, source: ArtifactsSource, watch: Watch): Promise<Placing[]> {
    const done = { files: 0, bytes: 0 }
    const placings: Placing[] = []
    for (const { to, ...name } of source.artifacts) {
      watch.signal.throwIfAborted()
      const artifact = await this.#earlier.find(tenantId, name)
      placings.push({
        path: to,
        mode: 0o644,
        key: KEY,
        write: async target => {
          const bytes = checked(artifact, `artifact "${name.path}" of task "${name.taskId}"`)
          const { signal } = watch
          await writeFile(target, this.#measured(bytes, done, watch), { flag: 'wx', mode: 0o600, signal })
          done.files += 1
          watch.progress({ stage: 'copy', ...done })
        },
      })
    }
    return placings
  }

  async *#measured(bytes: AsyncIterable<Uint8Array>, done: { bytes: number }, { signal }: Watch) {
    for await (const chunk of bytes) {
      signal.throwIfAborted()
      done.bytes += chunk.length
      if (done.bytes > this.#maxBytes) {
        throw new TaskFailure(
          'workspace.too_large',
          `the artifacts of workspace.source are larger than ${this.#maxBytes} bytes`,
          { hint: 'name fewer of them' },
        )
      }
      yield chunk
    }
  }
}

/** Passes the bytes on, and fails at the end when they are not those of the result. */
async function* checked(artifact: EarlierArtifact, what: string): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of artifact.read()) {
    hash.update(chunk)
    size += chunk.length
    if (size > (artifact.sizeBytes ?? size)) break
    yield chunk
  }
  const isSize = artifact.sizeBytes === null || artifact.sizeBytes === size
  const isHash = artifact.sha256 === null || artifact.sha256 === hash.digest('hex')
  if (isSize && isHash) return
  throw new TaskFailure(
    'workspace.remote_broken',
    `${what} is not what its result says; its stored bytes changed`,
    {
      hint: 'run that task again',
    },
  )
}
