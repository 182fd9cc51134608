import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Changes, redisNames, type TaskResult } from '@agirunner/contracts'
import { git, removeQueue, startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { Redis } from 'ioredis'
import { createChangesCapture } from '../capture/changes/index.js'
import { TaskRecords } from '../intake/records.js'
import { buildResult, NOTHING_REACHED } from '../report/result.js'
import { StoredArtifacts, type Workspaces } from '../workspace/index.js'
import type { Strategy, WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

const NOISE = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 251))
const NO_CHANGES: Omit<Changes, 'patch'> = {
  files: [],
  insertions: 0,
  deletions: 0,
  tree: '4b825dc642cb6eb9a060e54bf8d69288fbee4904',
  commits: [],
  commit: null,
  bundle: null,
  pushed: null,
  notes: [],
}

type Seed = { taskId: string; path: string; to: string }

describe.each<Strategy>(['overlay_volume', 'copy'])('artifacts of earlier tasks, %s', strategy => {
  let fixture: WorkspaceFixture
  let server: TestRedis
  let redis: Redis
  let room: Workspaces
  let limited: Workspaces
  const queue = uniqueQueue()
  const names = redisNames(queue)
  const plans: WorkspacePlan[] = []
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    server = await startRedis()
    redis = new Redis(server.url)
    const earlier = new StoredArtifacts(new TaskRecords(redis, names), fixture.dataDir)
    room = fixture.room(strategy, { earlier })
    limited = fixture.room(strategy, { earlier, limits: { maxTreeBytes: 1000 } })
    await leave('done', 'acme')
    await leave('theirs', 'other')
  })
  afterEach(async () => {
    for (const plan of plans.splice(0)) await plan.release()
    expect(await fixture.leftovers()).toEqual([])
  })
  afterAll(async () => {
    await capture.close()
    redis.disconnect()
    await removeQueue(server.url, queue)
    await server.stop()
    await fixture.close()
  })

  const fileOf = (tenant: string, taskId: string, name: string) =>
    join(fixture.dataDir, 'artifacts', tenant, taskId, '1', name)
  const uriOf = (path: string) => pathToFileURL(path).href

  async function store(tenant: string, taskId: string, name: string, bytes: string | Buffer) {
    const path = fileOf(tenant, taskId, name)
    await mkdir(dirname(path), { recursive: true })
    await rm(path, { force: true })
    await writeFile(path, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { uri: uriOf(path), sizeBytes: Buffer.byteLength(bytes), sha256 }
  }

  /** A task that has ended with a patch, a log and artifacts. */
  async function leave(taskId: string, tenantId: string, change: Partial<TaskResult> = {}): Promise<void> {
    const patch = await store(tenantId, taskId, 'changes.patch', 'diff --git a/a b/a\n')
    const log = await store(tenantId, taskId, 'log', 'one\ntwo\n')
    const large = await store(tenantId, taskId, 'files/0', NOISE)
    const result: TaskResult = {
      ...buildResult({
        identity: { taskId, tenantId, labels: {} },
        task: null,
        status: 'succeeded',
        failure: null,
        createdAt: new Date().toISOString(),
        attempts: [],
        reached: NOTHING_REACHED,
        worker: { id: 'w', host: 'h' },
      }),
      changes: { ...NO_CHANGES, patch },
      logs: { bytes: 8, lines: 2, truncated: false, uri: log.uri },
      artifacts: [{ ...large, path: 'output/deep/large.bin', mediaType: 'application/octet-stream' }],
      ...change,
    }
    await redis.set(names.result(taskId), JSON.stringify(result))
  }

  async function take(
    artifacts: Seed[],
    { tenantId = 'acme', from = room, files = [] as unknown[] } = {},
  ): Promise<WorkspacePlan> {
    const accepted = accept({ type: 'workspace_artifacts', artifacts }, { tenantId, files })
    const plan = await from.prepare(accepted, QUIET)
    plans.push(plan)
    return plan
  }

  /** The failure of taking one artifact of a task. */
  async function refusal(seed: Partial<Seed>, options: Parameters<typeof take>[1] = {}): Promise<Error> {
    const full = { taskId: 'done', path: 'changes.patch', to: 'repo/x', ...seed }
    return await take([full], options).then(
      () => {
        throw new Error('it was taken')
      },
      (error: Error) => error,
    )
  }

  test('lie where the task says, are its own, and are no changes', async () => {
    const plan = await take(
      [
        { taskId: 'done', path: 'output/deep/large.bin', to: 'repo/in/large.bin' },
        { taskId: 'done', path: 'changes.patch', to: 'context/earlier/changes.patch' },
        { taskId: 'done', path: 'log', to: 'output/earlier.log' },
      ],
      { files: [{ path: 'repo/in/note', text: 'n' }] },
    )
    expect(plan.base).toEqual({ url: null, ref: null, commit: null })
    expect(plan.placed).toEqual(['in/large.bin', 'in/note'])
    expect(await readFile(join(plan.slot.context, 'earlier/changes.patch'), 'utf8')).toContain('diff --git')
    expect(await readFile(join(plan.slot.output, 'earlier.log'), 'utf8')).toBe('one\ntwo\n')
    await fixture.inside(plan, async repo => {
      const { uid, mode } = await stat(join(repo, 'in/large.bin'))
      expect({ uid, mode: mode & 0o777 }).toEqual({ uid: plan.owner.uid, mode: 0o644 })
      expect(await readFile(join(repo, 'in/large.bin'))).toEqual(NOISE)
      expect(await git(['status', '--porcelain', '--branch'], { cwd: repo })).toBe(
        '## No commits yet on main',
      )
      await writeFile(join(repo, 'in/mine'), 'mine\n')
    })
    const patchFile = join(plan.slot.root, 'patch')
    const { changes } = await capture.capture({ plan, patchFile, signal: QUIET.signal })
    expect(changes.files.map(file => file.path)).toEqual(['repo/in/mine'])
  })

  test('progress is told', async () => {
    const told: unknown[] = []
    const artifacts = [{ taskId: 'done', path: 'log', to: 'repo/log' }]
    const accepted = accept({ type: 'workspace_artifacts', artifacts }, { tenantId: 'acme' })
    plans.push(await room.prepare(accepted, { ...QUIET, progress: data => told.push(data) }))
    expect(told).toContainEqual({ stage: 'copy', files: 1, bytes: 8 })
  })

  test("another tenant's task is answered like one that never was", async () => {
    const name = (text: string, taskId: string) => text.replaceAll(taskId, 'X')
    const theirs = await refusal({ taskId: 'theirs' })
    const unknown = await refusal({ taskId: 'unknown' })
    expect(theirs).toMatchObject({ code: 'workspace.not_found', phase: 'workspace' })
    expect(name(JSON.stringify(theirs), 'theirs')).toBe(name(JSON.stringify(unknown), 'unknown'))
    expect(name(theirs.message, 'theirs')).toBe(name(unknown.message, 'unknown'))
    // The control: to its own tenant it is there.
    await take([{ taskId: 'theirs', path: 'log', to: 'repo/x' }], { tenantId: 'other' })
    await redis.hset(names.record('running-theirs'), 'task', JSON.stringify({ tenantId: 'other' }))
    const running = await refusal({ taskId: 'running-theirs' })
    expect(name(running.message, 'running-theirs')).toBe(name(unknown.message, 'unknown'))
  })

  test.each([
    ['acme', { tenantId: 'acme' }],
    ['default', {}],
  ])('a task of tenant %s that has not ended says so, with a hint', async (tenantId, task) => {
    await redis.hset(names.record('running'), 'task', JSON.stringify(task))
    expect(await refusal({ taskId: 'running' }, { tenantId })).toMatchObject({
      code: 'workspace.not_found',
      message: expect.stringContaining('has not ended yet'),
      hint: expect.stringContaining('when that one has its result'),
    })
  })

  test.each(['nothing', 'output/deep', 'files/0', 'changes.bundle'])(
    'an artifact that is not there is named with its task: %s',
    async path => {
      expect(await refusal({ path })).toMatchObject({
        code: 'workspace.not_found',
        message: expect.stringContaining(`artifact "${path}" of task "done"`),
      })
    },
  )

  describe('stored bytes that changed', () => {
    test.each<[string, (path: string) => Promise<void>]>([
      ['other bytes of the same length', path => writeFile(path, Buffer.alloc(NOISE.length))],
      ['less', path => truncate(path, 1000)],
      ['more', path => truncate(path, NOISE.length + 1)],
      ['much more', path => truncate(path, 2 ** 40)],
    ])('%s: the task is not run with them', async (_name, change) => {
      await leave('damaged', 'acme')
      await change(fileOf('acme', 'damaged', 'files/0'))
      expect(await refusal({ taskId: 'damaged', path: 'output/deep/large.bin' })).toMatchObject({
        code: 'workspace.remote_broken',
        message: expect.stringContaining('is not what its result says'),
      })
    })

    test.each<[string, (path: string) => Promise<unknown>]>([
      ['gone', async () => undefined],
      ['a folder', path => mkdir(path)],
      ['a link', path => symlink(fileOf('other', 'theirs', 'log'), path)],
      [
        'below a link',
        async path => {
          await rm(dirname(path), { recursive: true })
          await symlink(dirname(fileOf('other', 'theirs', 'log')), dirname(path))
        },
      ],
    ])('%s: nothing is there', async (what, make) => {
      await leave('moved', 'acme')
      const path = fileOf('acme', 'moved', 'log')
      await rm(path)
      await make(path)
      // The control: who follows links reads what is another tenant's.
      if (what.includes('link')) expect(await readFile(path, 'utf8')).toBe('one\ntwo\n')
      expect(await refusal({ taskId: 'moved', path: 'log' })).toMatchObject({ code: 'workspace.not_found' })
      await rm(join(fixture.dataDir, 'artifacts/acme/moved'), { recursive: true })
    })
  })

  test.each<[string, () => string]>([
    ["another tenant's file", () => uriOf(fileOf('other', 'theirs', 'log'))],
    ["another task's file", () => uriOf(fileOf('acme', 'done', 'log'))],
    ['a file of the host', () => 'file:///etc/passwd'],
    ['a way up', () => `${uriOf(fileOf('acme', 'forged', ''))}..%2f..%2f..%2fother/theirs/1/log`],
    ['a way up in plain', () => `${uriOf(fileOf('acme', 'forged', ''))}../../../other/theirs/1/log`],
    ['another host', () => 'file://example.com/etc/passwd'],
    ['an address', () => 'https://example.com/x'],
    ['no URI', () => 'log'],
  ])('a result that names %s leads nowhere', async (_name, uri) => {
    await leave('forged', 'acme', { logs: { bytes: 1, lines: 1, truncated: false, uri: uri() } })
    expect(await refusal({ taskId: 'forged', path: 'log' })).toMatchObject({ code: 'workspace.not_found' })
  })

  test('too many bytes are too large; the same place twice is a mistake', async () => {
    expect(await refusal({ path: 'output/deep/large.bin' }, { from: limited })).toMatchObject({
      code: 'workspace.too_large',
    })
    const log = { taskId: 'done', path: 'log' }
    for (const [one, two, code] of [
      ['repo/x', 'repo/x', 'spec.invalid'],
      ['context/x', 'context/x/y', 'workspace.unsafe_tree'],
      ['repo/x', 'repo/x/y', 'workspace.unsafe_tree'],
      ['repo/x/y', 'repo/x', 'workspace.unsafe_tree'],
    ] as const) {
      const both = take([
        { ...log, to: one },
        { ...log, to: two },
      ])
      await expect(both).rejects.toMatchObject({
        code,
        message: expect.stringContaining('workspace.source.artifacts'),
      })
    }
  })

  test('a cancel ends it', async () => {
    const controller = new AbortController()
    const artifacts = ['a', 'b'].map(name => ({
      taskId: 'done',
      path: 'output/deep/large.bin',
      to: `repo/${name}`,
    }))
    const preparing = room.prepare(accept({ type: 'workspace_artifacts', artifacts }, { tenantId: 'acme' }), {
      signal: controller.signal,
      progress: () => controller.abort(new Error('canceled')),
    })
    await expect(preparing).rejects.toThrow('canceled')
    expect(await readdir(join(fixture.dataDir, 'slots'))).toEqual([])
  })
})
