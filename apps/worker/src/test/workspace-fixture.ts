import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { CacheBudget } from '@agirunner/cache'
import { parseTask, TaskFailure } from '@agirunner/contracts'
import { type GitServer, git, serveGit } from '@agirunner/test-kit'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { HostRoot } from '../support/host-roots.js'
import { hostId, newWorkerId } from '../support/identity.js'
import { Redactor } from '../support/redactor.js'
import { Secret } from '../support/secret.js'
import {
  createWorkspaces,
  type EarlierArtifacts,
  type GitLimits,
  type PrepareOptions,
  type Workspaces,
} from '../workspace/index.js'
import { STRATEGIES, type Strategy, type WorkspacePlan } from '../workspace/plan.js'

const run = promisify(execFile)

/** Docker's own data lies on a real disk as well; an overlay can't have another overlay as its upper layer. */
const PARENT = '/var/tmp'

/**
 * What a room can do here, where slots have no disks of their own. Late overlays have the layers of overlay volumes; that
 * containers see them is seen by the scenarios.
 */
export const WITHOUT_DISKS = STRATEGIES.filter(strategy => strategy !== 'late_overlay')

/** An engine that only remembers its volumes. */
export function volumeEngine(): ContainerEngine & { readonly made: Set<string> } {
  const made = new Set<string>()
  const engine = {
    made,
    createVolume: async ({ name }: { name: string }) => void made.add(name),
    removeVolume: async (name: string) => void made.delete(name),
  }
  return engine as unknown as ContainerEngine & { readonly made: Set<string> }
}

/** No task has been there before. */
export const NOTHING_EARLIER: EarlierArtifacts = {
  find: () => Promise.reject(new TaskFailure('workspace.not_found', 'no task has run yet')),
}
/** The strategies that need an engine's help to look into a workspace have a real one. */
const realEngine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })
const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

/** A folder with repositories and a git server, and workspaces made in it. */
export class WorkspaceFixture {
  readonly root: string
  readonly dataDir: string
  readonly server: GitServer
  readonly #rooms: Workspaces[] = []
  readonly engine = volumeEngine()
  /** Names what this fixture makes on a real engine. */
  readonly #stack = randomUUID()

  private constructor(root: string, server: GitServer) {
    this.root = root
    this.dataDir = join(root, 'data')
    this.server = server
  }

  static async create(auth?: { username: string; password: string }): Promise<WorkspaceFixture> {
    const root = await mkdtemp(join(PARENT, 'agirunner-workspace-'))
    const server = await serveGit({ root, ...(auth ? { auth } : {}) })
    return new WorkspaceFixture(root, server)
  }

  room(
    strategy: Strategy,
    options: {
      allowPrivate?: boolean
      limits?: Partial<GitLimits>
      cache?: Partial<CacheBudget>
      engine?: ContainerEngine
      hostRoots?: readonly HostRoot[]
      earlier?: EarlierArtifacts
      /** Whether workspaces are brought to where a container sees them, as execution does. */
      send?: boolean
    } = {},
  ): Workspaces {
    const { allowPrivate = true, hostRoots = [], earlier = NOTHING_EARLIER } = options
    const { dataDir } = this
    const room = createWorkspaces({
      dataDir,
      engine: options.engine ?? (strategy === 'archive' ? realEngine : this.engine),
      owner: { worker: newWorkerId(), host: hostId(), stack: this.#stack },
      strategy,
      disks: null,
      allowPrivate,
      hostRoots,
      earlier,
      // Who tests a failure wants it at once.
      limits: { retryMs: 0, ...options.limits },
      cache: { maxBytes: 10 * 2 ** 30, minFreeBytes: 0, ...options.cache },
    })
    this.#rooms.push(room)
    return options.send === false ? room : sending(room)
  }

  /** Runs `work` where the task would see its repository. */
  async inside<T>(plan: WorkspacePlan, work: (repo: string) => Promise<T>): Promise<T> {
    if (plan.layers.strategy === 'copy') return await work(plan.layers.copy)
    // The engine is on this machine, so the volume is a folder of it.
    if (plan.layers.strategy === 'archive')
      return await work(await folderOf(plan.delivery.mounts.repo.source))
    const { lower, upper, work: scratch } = plan.layers
    const at = join(plan.slot.root, 'mounted')
    await mkdir(at, { recursive: true })
    const layers = `lowerdir=${lower},upperdir=${upper},workdir=${scratch}`
    await run('mount', [
      '-t',
      'overlay',
      '-o',
      `${layers},redirect_dir=on,metacopy=off,index=off`,
      'overlay',
      at,
    ])
    try {
      return await work(at)
    } finally {
      await run('umount', [at])
    }
  }

  /** What is left of workspaces and half-made snapshots. */
  async leftovers(): Promise<string[]> {
    const list = (path: string) => readdir(join(this.dataDir, path)).catch(() => [])
    const label = `${LABELS.stack}=${this.#stack}`
    const onEngine = [...(await realEngine.containers(label)), ...(await realEngine.volumes(label))]
    return [
      ...(await list('slots')),
      ...(await list('snapshots/staging')),
      ...this.engine.made,
      ...onEngine.map(({ name }) => name),
    ]
  }

  async close(): Promise<void> {
    for (const room of this.#rooms) await room.close()
    await this.server.close()
    await rm(this.root, { recursive: true, force: true })
  }
}

function sending(room: Workspaces): Workspaces {
  return {
    prune: () => room.prune(),
    cacheStatus: () => room.cacheStatus(),
    adopt: saved => room.adopt(saved),
    makeSlot: shape => room.makeSlot(shape),
    push: (...args) => room.push(...args),
    prepare: async (accepted, options) => {
      const plan = await room.prepare(accepted, options)
      try {
        await plan.delivery.send({ image: IMAGE, ...options })
      } catch (error) {
        await plan.release()
        throw error
      }
      return plan
    },
    close: () => room.close(),
  }
}

/** The folder of a volume of the engine's. */
async function folderOf(volume: string): Promise<string> {
  const { stdout } = await run('docker', ['volume', 'inspect', '--format', '{{.Mountpoint}}', volume])
  return stdout.trim()
}

let counter = 0

/** A task as intake hands it on, with this source. */
export function accept(
  source: Record<string, unknown>,
  options: {
    files?: unknown[]
    profile?: 'user' | 'root'
    password?: string
    tenantId?: string
    capture?: Record<string, unknown>
    createdAt?: string
  } = {},
): AcceptedTask {
  counter += 1
  const {
    files = [],
    profile = 'user',
    password,
    tenantId = 'default',
    capture = {},
    createdAt = '',
  } = options
  const task = parseTask({
    taskId: `t-${counter}`,
    tenantId,
    run: { script: 'true' },
    environment: { profile },
    capture,
    workspace: { source, files, identity: { name: 'Ada "A" Lovelace', email: 'ada@example.com' } },
  })
  const credentials = password === undefined ? null : { username: 'someone', password: new Secret(password) }
  const at = { attempt: 1, fence: 1, createdAt, startedAt: '' }
  return {
    task,
    ...at,
    credentials,
    registryCredentials: null,
    secrets: new Map(),
    redactor: Redactor.of([]),
  }
}

export const QUIET: PrepareOptions = { signal: new AbortController().signal, progress: () => undefined }

/**
 * What git itself would commit of a work tree: the tree of a copy after `git add -A`.
 *
 * @param touch makes git read every file: it takes one of the same size and time for the same one, and every file of a
 * snapshot has one time
 */
export async function treeByGit(
  repo: string,
  scratch: string,
  { touch = true }: { touch?: boolean } = {},
): Promise<string> {
  await run('cp', ['-a', '--', repo, scratch])
  try {
    const files = [scratch, '-name', '.git', '-prune', '-o', '-type', 'f']
    // git passes over a FIFO, unless it lies where a file was: then it gives up.
    await run('find', [scratch, '-type', 'p', '-delete'])
    if (touch) await run('find', [...files, '-exec', 'touch', '--', '{}', '+'])
    await git(['add', '-A'], { cwd: scratch })
    return await git(['write-tree'], { cwd: scratch })
  } finally {
    await run('rm', ['-rf', '--', scratch])
  }
}
