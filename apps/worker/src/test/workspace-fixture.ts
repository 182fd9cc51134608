import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parseTask } from '@agirunner/contracts'
import { type GitServer, git, serveGit } from '@agirunner/test-kit'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS } from '../engine/labels.js'
import { type AcceptedTask, Secret } from '../intake/accepted-task.js'
import { createWorkspaces, type GitLimits, type PrepareOptions, type Workspaces } from '../workspace/index.js'
import type { Strategy, WorkspacePlan } from '../workspace/plan.js'

const run = promisify(execFile)

/** Docker's own data lies on a real disk as well; an overlay can't have another overlay as its upper layer. */
const PARENT = '/var/tmp'

/** An engine that only remembers its volumes. */
function volumeEngine(): ContainerEngine & { readonly made: Set<string> } {
  const made = new Set<string>()
  const engine = {
    made,
    createVolume: async ({ name }: { name: string }) => void made.add(name),
    removeVolume: async (name: string) => void made.delete(name),
  }
  return engine as unknown as ContainerEngine & { readonly made: Set<string> }
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
      engine?: ContainerEngine
      /** Whether workspaces are brought to where a container sees them, as execution does. */
      send?: boolean
    } = {},
  ): Workspaces {
    const { allowPrivate = true, limits = {} } = options
    const engine = options.engine ?? (strategy === 'archive' ? realEngine : this.engine)
    const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: this.#stack }
    const room = createWorkspaces({ dataDir: this.dataDir, engine, owner, strategy, allowPrivate, limits })
    this.#rooms.push(room)
    return options.send === false ? room : sending(room)
  }

  /** Runs `work` where the task would see its repository. */
  async inside<T>(plan: WorkspacePlan, work: (repo: string) => Promise<T>): Promise<T> {
    if (plan.layers.strategy === 'copy') return await work(plan.layers.copy)
    // The engine is on this machine, so the volume is a folder of it.
    if (plan.layers.strategy === 'archive') return await work(await folderOf(plan.delivery.mounts.repo.source))
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
  options: { files?: unknown[]; profile?: 'user' | 'root'; password?: string } = {},
): AcceptedTask {
  counter += 1
  const { files = [], profile = 'user', password } = options
  const task = parseTask({
    taskId: `t-${counter}`,
    run: { script: 'true' },
    environment: { profile },
    workspace: { source, files, identity: { name: 'Ada "A" Lovelace', email: 'ada@example.com' } },
  })
  const credentials = password === undefined ? null : { username: 'someone', password: new Secret(password) }
  return { task, attempt: 1, fence: 1, createdAt: '', startedAt: '', credentials, secrets: new Map() }
}

export const QUIET: PrepareOptions = { signal: new AbortController().signal, progress: () => undefined }

/** What git itself would commit of a work tree: the tree of a copy after `git add -A`. */
export async function treeByGit(repo: string, scratch: string): Promise<string> {
  await run('cp', ['-a', '--', repo, scratch])
  try {
    // git takes a file of the same size and time for the same one, and every file of a snapshot has one time.
    await run('find', [
      scratch,
      '-name',
      '.git',
      '-prune',
      '-o',
      '-type',
      'f',
      '-exec',
      'touch',
      '--',
      '{}',
      '+',
    ])
    await git(['add', '-A'], { cwd: scratch })
    return await git(['write-tree'], { cwd: scratch })
  } finally {
    await run('rm', ['-rf', '--', scratch])
  }
}
