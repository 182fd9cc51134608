import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { type HostileGit, type HostileKind, serveHostileGit } from '@agirunner/test-kit'
import { expect } from '@jest/globals'
import type { GitLimits } from '../workspace/index.js'
import { PrepareProcess } from './prepare-process.js'
import type { Report } from './prepare-program.js'

const MIB = 2 ** 20

/** Low enough for what has no end, and high enough for what is honest on a busy machine. */
const LIMITS = {
  connectMs: 10_000,
  firstByteMs: 10_000,
  idleMs: 10_000,
  totalMs: 30_000,
  retryMs: 0,
  maxFetchBytes: 8 * MIB,
  maxTreeBytes: 64 * MIB,
  maxFiles: 5000,
  maxMemoryBytes: 500 * MIB,
} satisfies Partial<GitLimits>

/** What a worker process may grow by, and for how long its event loop may stand still, whatever a server does. */
const MAX_GROWN_BYTES = 64 * MIB
const MAX_BLOCKED_MS = 100

export interface Attempt {
  /** Of the task; `main` by default. */
  readonly ref?: string | null
  /** Instead of the fixture's. */
  readonly limits?: Partial<GitLimits>
  readonly allowPrivate?: boolean
  /** Whether the pack is whole, so that it may stay in the cache. */
  readonly cached?: boolean
}

/** Hostile repositories, and a process that prepares them as a worker does. */
export class HostileFixture {
  readonly server: HostileGit
  readonly #process: PrepareProcess

  private constructor(server: HostileGit, process: PrepareProcess) {
    this.server = server
    this.#process = process
  }

  static async start(): Promise<HostileFixture> {
    const server = await serveHostileGit()
    return new HostileFixture(server, await PrepareProcess.start(server.at('honest'), LIMITS))
  }

  /** Prepares what fails, and sees to it that nothing else comes of it. */
  async refused(at: HostileKind | { url: string }, attempt: Attempt = {}): Promise<Report> {
    const { cached = false } = attempt
    const before = await this.#process.onDisk(cached)
    const report = await this.#prepare(at, attempt)
    expect(report.made).toBeNull()
    expect(report.failure?.phase).toBe('workspace')
    expect(await this.#process.onDisk(cached)).toEqual(before)
    expectHarmless(report)
    return report
  }

  /** Prepares what succeeds, and gives `look` the folder of the repository; then nothing is left but its snapshot. */
  async made(
    kind: HostileKind,
    attempt: Attempt = {},
    look: (repo: string) => Promise<unknown> = async () => undefined,
  ): Promise<NonNullable<Report['made']>> {
    const report = await this.#prepare(kind, attempt)
    expect(report.failure).toBeNull()
    expectHarmless(report)
    const made = report.made as NonNullable<Report['made']>
    await look(made.repo)
    await this.#process.release()
    expect(await this.#process.onDisk(true)).toEqual([])
    return made
  }

  async burden(): Promise<Report> {
    return await this.#process.burden()
  }

  /** Ends all, and sees to it that no git child is left. */
  async close(): Promise<void> {
    expect(await this.#process.close()).toEqual([])
    await this.server.close()
  }

  async #prepare(at: HostileKind | { url: string }, attempt: Attempt): Promise<Report> {
    const url = typeof at === 'string' ? this.server.at(at) : at.url
    const { ref = 'main', limits = {}, allowPrivate = true } = attempt
    return await this.#process.prepare({ url, ref }, { ...LIMITS, ...limits }, { allowPrivate })
  }
}

export function expectHarmless(report: Report): void {
  expect(report.grownBytes).toBeLessThan(MAX_GROWN_BYTES)
  expect(report.blockedMs).toBeLessThan(MAX_BLOCKED_MS)
  // Of each room, one is kept warm and one may have been at work.
  expect(report.children.after.length).toBeLessThanOrEqual(4)
}

/** The files of a work tree by their paths in latin1, `-> target` for a link; folders end in a slash. */
export async function contentOf(repo: string, folder = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of await readdir(Buffer.from(`${repo}/${folder}`, 'latin1'), { encoding: 'latin1' })) {
    if (name === '.git') continue
    const path = `${folder}${name}`
    const at = Buffer.from(`${repo}/${path}`, 'latin1')
    const stats = await lstat(at)
    if (stats.isDirectory()) Object.assign(found, { [`${path}/`]: '' }, await contentOf(repo, `${path}/`))
    else found[path] = stats.isSymbolicLink() ? `-> ${await readlink(at)}` : await readFile(at, 'latin1')
  }
  return found
}
