import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { readCatalog } from '@agirunner/contracts'
import { createRepository, eventually, git, type Repository } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { AttemptState } from '../attempt-state.js'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS, labelsOf } from '../engine/labels.js'
import { AttachedLog } from '../execution/attached-log.js'
import { Execution } from '../execution/execution.js'
import { createImages } from '../execution/images/index.js'
import { readMarks } from '../execution/marks.js'
import type { RunningContainer } from '../execution/running-container.js'
import { newBorder } from '../execution/step-borders.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { sleep } from '../support/lifecycle.js'
import { NO_ROSTER } from '../support/roster.js'
import { ArchiveDelivery } from '../workspace/archive/archive-delivery.js'
import { UNPACK_LIMITS } from '../workspace/archive/unpack.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { makeSlot } from '../workspace/slots.js'
import { EngineProxy } from './engine-proxy.js'
import { onlyNone } from './network-fixture.js'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

const run = promisify(execFile)
const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: randomUUID() }
const user = { uid: 10_001, gid: 10_001 }

let proxy: EngineProxy
/** Over TCP, as to another machine. */
let engine: ContainerEngine
let folder: string

beforeAll(async () => {
  proxy = await EngineProxy.start()
  engine = dockerEngine({ host: proxy.host, tls: false }, { bindRoots: [tmpdir()], runtimes: [] })
})
afterAll(() => proxy.close())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'archive-engine-'))
})
afterEach(async () => {
  rmSync(folder, { recursive: true })
  expect(await onEngine()).toEqual([])
})

async function onEngine(): Promise<string[]> {
  const label = `${LABELS.stack}=${owner.stack}`
  return [...(await engine.containers(label)), ...(await engine.volumes(label))].map(({ name }) => name)
}

describe('the output of a container, followed over a connection', () => {
  let id: string
  let log: string

  beforeEach(() => {
    log = join(folder, 'log')
    mkdirSync(log)
  })
  afterEach(() => engine.remove(id))

  /** A container that runs a script and has `folder` at /shared. */
  async function create(script: string): Promise<void> {
    id = await engine.create({
      name: `agirunner-test-${randomUUID()}`,
      image: IMAGE,
      command: ['/bin/sh', '-c', script],
      env: [],
      labels: labelsOf(owner, 'task', 'none'),
      user: '0:0',
      readOnlyRoot: true,
      capabilities: [],
      mounts: [{ type: 'bind', source: folder, target: '/shared', readOnly: true }],
      tmpfs: {},
      cpus: 1,
      memoryBytes: 64 * 2 ** 20,
      pids: 32,
      shmBytes: 2 ** 20,
      network: 'none',
      dns: [],
      runtime: null,
    })
  }

  const follow = () => AttachedLog.open({ engine, id, folder: log, border: newBorder() })
  const read = (name: 'o' | 'e') => readFileSync(join(log, name), 'latin1')
  const UNTIL_GO = 'until [ -e /shared/go ]; do sleep 0.02; done'

  test('is all there once it has ended, however much comes last', async () => {
    await create('seq 700000; seq 100000 >&2; printf "the end"; printf "the error" >&2')
    const attached = await follow()
    await engine.start(id)
    expect((await engine.exit(id, QUIET.signal)).exitCode).toBe(0)
    await attached.finish()
    const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index + 1}\n`).join('')
    expect(read('o') === `${numbers(700_000)}the end`).toBe(true)
    expect(read('e') === `${numbers(100_000)}the error`).toBe(true)
    expect((await readMarks(log)).lost).toBe(false)
    await attached.abandon()
  })

  test.each(['end', 'reset'] as const)(
    'goes on after a connection that broke with %s, and what is missing is told',
    async how => {
      await create(`echo before; ${UNTIL_GO}; echo after; exit 3`)
      const connections = proxy.followed
      const attached = await follow()
      await engine.start(id)
      await eventually(() => read('o') === 'before\n', { within: 10_000 })
      proxy.cut(how)
      await eventually(() => proxy.followed === connections + 2, { within: 20_000 })
      writeFileSync(join(folder, 'go'), '')
      expect((await engine.exit(id, QUIET.signal)).exitCode).toBe(3)
      await attached.finish()
      expect(read('o')).toBe('before\nafter\n')
      expect(read('e')).toMatch(/output is missing here\n$/)
      expect((await readMarks(log)).lost).toBe(true)
    },
  )

  test('stalls the container when nobody reads it, which is why it is read into files', async () => {
    await create('head -c 50000000 /dev/zero')
    const abort = new AbortController()
    const unread = await engine.attach(id, abort.signal)
    await engine.start(id)
    const exit = engine.exit(id, QUIET.signal)
    const stalled = await Promise.race([exit.then(() => false), sleep(3000).then(() => true)])
    expect(stalled).toBe(true)
    abort.abort(new Error('enough'))
    const read = async () => {
      for await (const _run of unread);
    }
    await expect(read()).rejects.toThrow('enough')
    expect((await exit).exitCode).toBe(0)
  })

  test('that the disk has no room for neither stalls the container nor is taken for whole', async () => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', log])
    try {
      await create('head -c 50000000 /dev/zero')
      const attached = await follow()
      await engine.start(id)
      expect((await engine.exit(id, QUIET.signal)).exitCode).toBe(0)
      await expect(attached.finish()).rejects.toMatchObject({ code: 'capture.failed' })
    } finally {
      await run('umount', [log])
    }
  })

  test('can be abandoned while the container goes on', async () => {
    await create(`echo before; ${UNTIL_GO}; head -c 5000000 /dev/zero; exit 5`)
    const attached = await follow()
    await engine.start(id)
    await eventually(() => read('o') === 'before\n', { within: 10_000 })
    await attached.abandon()
    await attached.abandon()
    writeFileSync(join(folder, 'go'), '')
    expect((await engine.exit(id, QUIET.signal)).exitCode).toBe(5)
    expect(read('o')).toBe('before\n')
  })
})

describe('a delivery by archive', () => {
  /** A slot, and a snapshot with one file of that size. */
  async function makeDelivery(bytes: number, limits = UNPACK_LIMITS) {
    const slot = await makeSlot(folder, owner, user)
    const [lower, upper] = [join(slot.root, 'lower'), join(slot.root, 'upper')]
    for (const path of [lower, upper]) mkdirSync(path)
    writeFileSync(join(lower, 'file'), '')
    truncateSync(join(lower, 'file'), bytes)
    const layers = { strategy: 'archive' as const, lower, upper, copy: join(slot.root, 'repo') }
    const delivery = new ArchiveDelivery({ engine, worker: owner, slot, layers, limits })
    return { slot, layers, delivery }
  }

  test('that is canceled while it sends leaves nothing', async () => {
    const { delivery } = await makeDelivery(200 * 2 ** 20)
    const controller = new AbortController()
    const progress = () => controller.abort(new Error('canceled'))
    const sending = delivery.send({ image: IMAGE, signal: controller.signal, progress })
    await expect(sending).rejects.toThrow('canceled')
    await delivery.release()
    await delivery.release()
    expect(await onEngine()).toEqual([])
  })

  test('that is released while it reads back ends that, and leaves nothing', async () => {
    const { delivery } = await makeDelivery(200 * 2 ** 20)
    await delivery.send({ ...QUIET, image: IMAGE })
    const collecting = delivery.collect('repo', QUIET.signal)
    const refused = expect(collecting).rejects.toThrow('released')
    await delivery.release()
    await refused
    await expect(delivery.collect('repo', QUIET.signal)).rejects.toThrow('released')
  })

  test('tells how far it is', async () => {
    const { delivery } = await makeDelivery(3 * 2 ** 20)
    const told: Record<string, unknown>[] = []
    await delivery.send({ ...QUIET, image: IMAGE, progress: data => told.push(data) })
    await delivery.release()
    expect(told[0]).toEqual({ stage: 'send', bytes: expect.any(Number) })
  })

  test('takes back no more than its limits, with capture.failed', async () => {
    const { delivery } = await makeDelivery(5000, { ...UNPACK_LIMITS, writtenBytes: 4999 })
    await delivery.send({ ...QUIET, image: IMAGE })
    await expect(delivery.collect('repo', QUIET.signal)).rejects.toMatchObject({ code: 'capture.failed' })
    await delivery.collect('output', QUIET.signal)
    await delivery.release()
  })

  test('to an engine without the image says so', async () => {
    const { delivery } = await makeDelivery(1)
    const sending = delivery.send({ ...QUIET, image: 'agirunner/no-such-image:0' })
    await expect(sending).rejects.toMatchObject({ code: 'image.not_found' })
    await delivery.release()
  })

  test('whose snapshot lost a file tells that, and not that the engine is away', async () => {
    const { delivery, layers } = await makeDelivery(1)
    rmSync(layers.lower, { recursive: true })
    await expect(delivery.send({ ...QUIET, image: IMAGE })).rejects.toThrow(/ENOENT/)
    await delivery.release()
  })
})

describe('a task whose engine shares no files', () => {
  let fixture: WorkspaceFixture
  let repository: Repository

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    repository = await createRepository({
      root: fixture.root,
      name: 'demo',
      build: async builder => {
        await builder.write({
          'run.sh': { content: 'true\n', mode: 0o755 },
          out: { symlink: '../../../outside' },
          absolute: { symlink: '/etc/passwd' },
          [`${'long/'.repeat(30)}file`]: 'deep\n',
        })
        await builder.commit('one')
      },
    })
    await addRawName(repository)
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await fixture.close()
    expect(left).toEqual([])
  })

  async function start(accepted: AcceptedTask, plan: WorkspacePlan): Promise<RunningContainer> {
    const info = await engine.info()
    const settings = { dataDir: fixture.dataDir, catalog: readCatalog(null), dockerConfigDir: folder }
    const made = await createImages(
      { ...settings, pullIdleMs: 60_000, isLocal: false },
      { engine, info, owner },
    )
    const execution = new Execution({
      engine,
      info,
      owner,
      roster: NO_ROSTER,
      networks: await onlyNone(engine, owner),
      images: made.images,
      verification: made.verification,
      parking: null,
      bootstrapMs: 60_000,
      groups: null,
      allowRootProfile: true,
      allowedRuntimes: [],
      beforeRun: () => Promise.resolve(),
      notStarted: () => Promise.resolve(),
    })
    const { taskId } = accepted.task
    const state = new AttemptState({ taskId, attempt: 1, queuedMs: 0, emit: () => undefined })
    state.enter('workspace')
    return await execution.start({ accepted, plan, state, signal: QUIET.signal }, null)
  }

  test.each(['user', 'root'] as const)('finds what any other finds, profile %s', async profile => {
    const script = `
      git status --porcelain; git diff-files --name-only; git fsck --strict 2>&1
      readlink out absolute; cat ${'long/'.repeat(30)}file; ls | grep -a raw | od -An -c
      for place in "$AGIRUNNER_CONTEXT" /run/agirunner/gate; do
        touch "$place/x" 2>/dev/null && echo "could write to $place"
      done
      touch "$HOME/x" "$AGIRUNNER_OUTPUT/x" new && stat -c '%u %a' "$HOME" . new
      cat "$AGIRUNNER_CONTEXT/notes.md"`
    const source = { url: `${fixture.server.url}/demo.git`, ref: 'main' }
    const files = [{ path: 'context/notes.md', text: 'notes' }]
    const accepted = accept(source, { profile, files })
    const task = { ...accepted.task, taskId: `archive-${process.pid}-${profile}`, run: { script } }
    const plan = await fixture.room('archive', { engine, send: false }).prepare({ ...accepted, task }, QUIET)
    const container = await start({ ...accepted, task }, plan)
    try {
      const exit = await container.exit
      expect({ code: exit.code, passed: exit.marks.passed }).toEqual({ code: 0, passed: true })
      expect(await mountTypes(container.id)).toEqual(['volume'])
      const uid = profile === 'root' ? '0' : '10001'
      expect(readFileSync(join(plan.slot.log, 'o'), 'utf8').trimEnd().split('\n')).toEqual([
        '../../../outside',
        '/etc/passwd',
        'deep',
        String.raw`   r   a   w 377  \n`,
        `${uid} 700`,
        `${uid} 755`,
        `${uid} 644`,
        'notes',
      ])
      expect(readFileSync(join(plan.slot.log, 'e'), 'utf8')).toBe('')
    } finally {
      await container.release()
      await plan.release()
    }
  })
})

/** What a container has mounted, tmpfs apart. */
async function mountTypes(id: string): Promise<string[]> {
  const { stdout } = await run('docker', ['inspect', '--format', '{{range .Mounts}}{{.Type}} {{end}}', id])
  return [...new Set(stdout.trim().split(' '))].filter(type => type !== 'tmpfs')
}

/** Adds a commit with a file whose name is no UTF-8. */
async function addRawName(repository: Repository): Promise<void> {
  const at = { cwd: repository.path }
  const blob = await git(['hash-object', '-w', '--stdin'], { ...at, input: Buffer.from('raw\n') })
  const env = { GIT_INDEX_FILE: join(repository.path, 'raw-index') }
  await git(['read-tree', 'main'], { ...at, env })
  const line = Buffer.concat([Buffer.from(`100644 ${blob}\traw`), Buffer.from([0xff, 0])])
  await git(['update-index', '-z', '--index-info'], { ...at, env, input: line })
  const tree = await git(['write-tree'], { ...at, env })
  const commit = await git(['commit-tree', tree, '-p', 'main', '-m', 'raw'], at)
  await git(['update-ref', 'refs/heads/main', commit], at)
}

describe('the probe', () => {
  const PROBE = fileURLToPath(new URL('./probe-apart.js', import.meta.url))

  test('where the engine sees other files than the worker finds the archive, with the reasons', () => {
    // The worker's data folder is a file system that only it sees.
    const apart = `mount -t tmpfs tmpfs "$1" && exec "$2" "$3" "$1" "$4" "$5"`
    const args = ['-m', 'sh', '-c', apart, 'sh', folder, process.execPath, PROBE, IMAGE, owner.stack]
    const found = JSON.parse(execFileSync('unshare', args, { encoding: 'utf8' })) as Record<string, string>
    expect(found.strategy).toBe('archive')
    expect(found.why).toMatch(/^a container wrote to a volume.*no overlay_volume: .*no copy: /)
  })
})
