import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createRepository, git, manyFiles, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { labelsOf } from '../engine/labels.js'
import { probeStrategy } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

const run = promisify(execFile)
const IMAGE = 'agirunner/debian-base:1'
const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: randomUUID() }
const capture = createChangesCapture()
let fixture: WorkspaceFixture
let engine: ContainerEngine
let repository: Repository

beforeAll(async () => {
  fixture = await WorkspaceFixture.create()
  engine = dockerEngine(
    { host: process.env.DOCKER_HOST ?? null, tls: false },
    { bindRoots: [fixture.root], runtimes: [] },
  )
  repository = await createRepository({
    root: fixture.root,
    name: 'demo',
    files: { ...manyFiles(300), 'folder/a': 'a\n', 'folder/b': 'b\n', 'run.sh': 'true\n' },
  })
})
afterAll(async () => {
  const label = `agirunner.stack=${owner.stack}`
  const left = [...(await engine.volumes(label)), ...(await engine.containers(label))]
  const mounts = await readFile('/proc/self/mountinfo', 'utf8')
  await capture.close()
  await fixture.close()
  expect(left).toEqual([])
  expect(mounts).not.toContain(fixture.root)
})

/** Runs a script where a task would run, as its user. */
async function inContainer(plan: WorkspacePlan, script: string): Promise<number> {
  const id = await engine.create({
    name: `agirunner-test-${plan.slot.id}`,
    image: IMAGE,
    command: ['/bin/sh', '-ec', script],
    env: ['HOME=/home/agent'],
    labels: labelsOf(owner, 'task', plan.slot.id),
    user: `${plan.owner.uid}:${plan.owner.gid}`,
    readOnlyRoot: true,
    capabilities: [],
    mounts: [
      { ...plan.delivery.mounts.repo, target: '/workspace/repo', readOnly: false },
      { ...plan.delivery.mounts.home, target: '/home/agent', readOnly: false },
      { ...plan.delivery.mounts.output, target: '/workspace/output', readOnly: false },
    ],
    tmpfs: {},
    cpus: 1,
    memoryBytes: 256 * 2 ** 20,
    pids: 64,
    shmBytes: 2 ** 20,
    network: 'none',
    dns: [],
    runtime: null,
  })
  try {
    await engine.start(id)
    return (await engine.exit(id, QUIET.signal)).exitCode
  } finally {
    await engine.remove(id)
  }
}

test('the probe finds the overlay to work here, and falls back with the reasons', async () => {
  const options = { owner, dataDir: fixture.dataDir }
  expect(await probeStrategy(engine, { ...options, image: IMAGE })).toMatchObject({
    strategy: 'overlay_volume',
  })
  const without = await probeStrategy(engine, { ...options, image: 'agirunner/no-such-image:0' })
  expect(without).toMatchObject({ strategy: 'archive', why: expect.stringContaining('no-such-image') })
  const colon = await probeStrategy(engine, { ...options, dataDir: `${fixture.root}/a:b`, image: IMAGE })
  expect(colon).toMatchObject({
    strategy: 'copy',
    why: expect.stringContaining("can't stand in mount options"),
  })
  expect(await fixture.leftovers()).toEqual([])
})

test.each(WITHOUT_DISKS)(
  'git works for the task in its container, and its changes are read back, %s',
  async strategy => {
    const room = fixture.room(strategy, { engine })
    const plan = await room.prepare(accept({ url: `${fixture.server.url}/demo.git`, ref: 'main' }), QUIET)
    const script = `
    cd /workspace/repo
    test -z "$(git status --porcelain)"
    git switch -qc mine
    git mv folder moved
    git commit -qm 'move it'
    git log --format='%an <%ae>' -1 >/workspace/output/author
    echo more >>run.sh
    chmod +x run.sh
    rm -r folder-1
    umask 077; mkdir -p secret; echo 1 >secret/file
    printf '\\0' >bin`
    expect(await inContainer(plan, script)).toBe(0)
    await plan.delivery.collect('repo', QUIET.signal)
    await plan.delivery.collect('output', QUIET.signal)
    const patchFile = join(plan.slot.root, 'patch')
    const { changes } = await capture.capture({ plan, patchFile, signal: QUIET.signal })
    const clone = join(plan.slot.root, 'clone')
    await git(['clone', '--quiet', repository.path, clone])
    await git(['apply', '--index', '--binary', patchFile], { cwd: clone })
    expect(await git(['write-tree'], { cwd: clone })).toBe(changes.tree)
    const of = (status: string) => changes.files.filter(file => file.status === status)
    expect(of('renamed').map(file => file.path)).toEqual(['repo/moved/a', 'repo/moved/b'])
    expect(of('modified')).toMatchObject([{ path: 'repo/run.sh', mode: '100755' }])
    expect(of('added').map(file => file.path)).toEqual(['repo/bin', 'repo/secret/file'])
    expect(of('deleted')).toHaveLength(100)
    expect(changes.commits).toMatchObject([{ message: 'move it\n', author: { email: 'ada@example.com' } }])
    expect(await readFile(join(plan.slot.output, 'author'), 'utf8')).toContain('<ada@example.com>')
    await plan.release()
    await plan.release()
    await run('test', ['!', '-e', plan.slot.root])
  },
)
