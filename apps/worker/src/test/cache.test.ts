import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Cache } from '@agirunner/cache'
import { createRepository, git, manyFiles, type Repository } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

let fixture: WorkspaceFixture
let repository: Repository
let url: string

beforeAll(async () => {
  fixture = await WorkspaceFixture.create()
  url = `${fixture.server.url}/demo.git`
  repository = await createRepository({ root: fixture.root, name: 'demo', files: manyFiles(60, 2000) })
})
afterEach(async () => expect(await fixture.leftovers()).toEqual([]))
afterAll(() => fixture.close())

async function commit(message: string): Promise<string> {
  await repository.change(async builder => {
    await builder.write({ [`file-${message}`]: `${message}\n` })
    await builder.commit(message)
  })
  return repository.head
}

const fetches = () => fixture.server.requests.filter(({ method }) => method === 'POST').length
const cacheOf = () => new Cache(fixture.dataDir)

async function packs(): Promise<{ name: string; bytes: number }[]> {
  const [repositoryItem] = (await cacheOf().list()).filter(({ kind }) => kind === 'repository')
  const folder = join(repositoryItem?.path ?? '', 'objects/pack')
  const names = (await readdir(folder)).filter(name => name.endsWith('.pack'))
  return await Promise.all(names.map(async name => ({ name, bytes: (await stat(join(folder, name))).size })))
}

describe('what was fetched', () => {
  test('is kept: of a new commit only what is new is asked for', async () => {
    const room = fixture.room('overlay_volume')
    const first = await room.prepare(accept({ url, commit: repository.head }), QUIET)
    const [whole] = await packs()
    const head = await commit('second')
    const second = await room.prepare(accept({ url, commit: head }), QUIET)
    const added = (await packs()).filter(({ name }) => name !== whole?.name)
    // What came, and the commit by itself.
    expect(added).toHaveLength(2)
    expect(Math.min(...added.map(({ bytes }) => bytes))).toBeLessThan((whole?.bytes ?? 0) / 10)
    await Promise.all([first.release(), second.release()])
  })

  test('serves every uid, ref and smaller depth of the commit without the network', async () => {
    const room = fixture.room('copy')
    const deep = await room.prepare(accept({ url, ref: 'main', depth: 0 }), QUIET)
    const before = fetches()
    const source = { url, commit: repository.head, depth: 1 }
    for (const profile of ['user', 'root'] as const) {
      const plan = await room.prepare(accept(source, { profile }), QUIET)
      await fixture.inside(plan, async repo => {
        expect(await git(['rev-list', '--count', 'HEAD'], { cwd: repo })).toBe('1')
        expect(await git(['fsck', '--strict'], { cwd: repo })).toBe('')
      })
      await plan.release()
    }
    expect(fetches()).toBe(before)
    await deep.release()
  })

  test('is fetched anew when what is kept does not hold what it should', async () => {
    const room = fixture.room('copy')
    const head = await commit('broken')
    const plan = await room.prepare(accept({ url, commit: head }), QUIET)
    await plan.release()
    const cache = cacheOf()
    // The snapshot goes, so that the repository is asked; and of that a pack.
    for (const item of await cache.list()) if (item.kind === 'snapshot') await cache.remove(item)
    const [pack] = await packs()
    const [item] = await cache.list()
    await rm(join(item?.path ?? '', 'objects/pack', pack?.name ?? ''))
    const again = await room.prepare(accept({ url, commit: head }), QUIET)
    await fixture.inside(again, async repo =>
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe(''),
    )
    await again.release()
  })

  test('of a long row of commits each is what a clone of it is, and the oldest are forgotten', async () => {
    const room = fixture.room('copy')
    for (let round = 0; round < 28; round += 1) {
      const plan = await room.prepare(accept({ url, commit: await commit(`long-${round}`) }), QUIET)
      const names = await readdir(join(plan.layers.lower, '.git/objects/pack'))
      expect(names.filter(name => name.endsWith('.pack'))).toHaveLength(1)
      await fixture.inside(plan, async repo =>
        expect(await git(['fsck', '--strict'], { cwd: repo })).toBe(''),
      )
      await plan.release()
    }
    const [item] = (await cacheOf().list()).filter(({ kind }) => kind === 'repository')
    expect(await readdir(join(item?.path ?? '', 'fetched'))).toHaveLength(16)
  })
})

test('many tasks on one branch ask twice at most, and each gets what was pushed before it', async () => {
  const room = fixture.room('overlay_volume')
  const first = await room.prepare(accept({ url, ref: 'main' }), QUIET)
  const head = await commit('pushed')
  const before = fetches()
  const plans = await Promise.all(
    Array.from({ length: 20 }, () => room.prepare(accept({ url, ref: 'main' }), QUIET)),
  )
  expect(plans.map(({ base }) => base.commit)).toEqual(plans.map(() => head))
  // Two lists of refs, one fetch.
  expect(fetches() - before).toBe(3)
  await Promise.all([first, ...plans].map(plan => plan.release()))
})

describe('two workers on one data folder', () => {
  test('50 tasks on one new commit are one fetch, 50 on a known one none', async () => {
    const [one, other] = [fixture.room('overlay_volume'), fixture.room('overlay_volume')]
    const head = await commit('shared')
    const fifty = () =>
      Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          (index % 2 === 0 ? one : other).prepare(accept({ url, commit: head }), QUIET),
        ),
      )
    const before = fetches()
    const plans = await fifty()
    expect(fetches() - before).toBe(1)
    const asked = fixture.server.requests.length
    plans.push(...(await fifty()))
    expect(fixture.server.requests.length).toBe(asked)
    await Promise.all(plans.map(plan => plan.release()))
  })

  test('the cache is emptied again and again while tasks come, and no task notices', async () => {
    const rooms = [fixture.room('overlay_volume'), fixture.room('copy')]
    const head = await commit('emptied')
    let done = false
    const emptying = (async () => {
      let removed = 0
      while (!done) removed += (await cacheOf().prune({ maxBytes: 0, minFreeBytes: 0 })).removed.length
      return removed
    })()
    for (let round = 0; round < 12; round += 1) {
      const plans = await Promise.all(rooms.map(room => room.prepare(accept({ url, ref: 'main' }), QUIET)))
      for (const plan of plans) {
        expect(plan.base.commit).toBe(head)
        await fixture.inside(plan, async repo =>
          expect(await git(['status', '--porcelain'], { cwd: repo })).toBe(''),
        )
        await plan.release()
      }
    }
    done = true
    expect(await emptying).toBeGreaterThan(0)
  })
})

const KILLED = fileURLToPath(new URL('./killed-worker.js', import.meta.url))

/** A worker of its own, told what to prepare by messages. */
async function startKilled(): Promise<ChildProcess> {
  const child = fork(KILLED, [fixture.dataDir], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(child, 'message')
  return child
}

test('kill -9 at any moment leaves nothing that is used, and nothing that stays', async () => {
  const room = fixture.room('copy')
  for (let round = 0; round < 12; round += 1) {
    const head = await commit(`killed-${round}`)
    const child = await startKilled()
    const stages: string[] = []
    child.on('message', ({ stage }: { stage: string }) => stages.push(stage))
    child.send({ url, commit: head })
    // Later in each round: while it asks, fetches, indexes, checks out, publishes, has it.
    await new Promise(resolve => setTimeout(resolve, round * 15))
    child.kill('SIGKILL')
    await once(child, 'exit')
    const plan = await room.prepare(accept({ url, commit: head }), QUIET)
    await fixture.inside(plan, async repo => {
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe('')
      expect(await git(['fsck', '--strict'], { cwd: repo })).toBe('')
    })
    await plan.release()
  }
  // What the next worker's start does: what the dead ones left goes.
  for (const name of await readdir(join(fixture.dataDir, 'slots'))) {
    await rm(join(fixture.dataDir, 'slots', name), { recursive: true })
  }
  await fixture.room('copy').close()
  const { removed } = await cacheOf().prune({ maxBytes: 0, minFreeBytes: 0 })
  expect(removed.length).toBeGreaterThan(0)
  expect(await cacheOf().list()).toEqual([])
  expect(await readdir(join(fixture.dataDir, 'locks'))).toEqual([])
}, 180_000)

test('what is used is never evicted, and a budget is kept', async () => {
  const room = fixture.room('overlay_volume', { cache: { maxBytes: 0 } })
  const head = await commit('budget')
  const plan = await room.prepare(accept({ url, commit: head }), QUIET)
  await room.prune()
  expect(existsSync(join(plan.layers.lower, '.git/HEAD'))).toBe(true)
  await plan.release()
  await room.prune()
  expect(await cacheOf().bytes()).toBe(0)
  expect(room.cacheStatus()).toEqual({ bytes: 0, maxBytes: 0, hits: 0, misses: 1 })
})

describe('a remote whose connection breaks', () => {
  let proxy: Server
  let failing = 0
  let asked = 0
  let how: 'busy' | 'reset' = 'busy'

  beforeAll(async () => {
    proxy = createServer((incoming, outgoing) => {
      asked += 1
      if (failing > 0) {
        failing -= 1
        if (how === 'busy') return void outgoing.writeHead(503).end()
        return void incoming.socket.destroy()
      }
      const { method = 'GET', headers, url: path = '/' } = incoming
      const forwarded = request(`${fixture.server.url}${path}`, { method, headers }, answer => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      })
      incoming.pipe(forwarded)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
  })
  afterAll(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  const through = () => `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/demo.git`

  test.each(['busy', 'reset'] as const)('%s: is tried again within the budget, and says so', async kind => {
    how = kind
    failing = 2
    const told: Record<string, unknown>[] = []
    const room = fixture.room('copy', { limits: { retryMs: 10_000 } })
    const task = accept({ url: through(), commit: await commit(`again-${kind}`) })
    const plan = await room.prepare(task, { ...QUIET, progress: data => told.push(data) })
    await plan.release()
    expect(told.filter(({ stage }) => stage === 'retry')).toMatchObject([{ tries: 1 }, { tries: 2 }])
  })

  test('what the server says is not asked twice, and without a budget nothing is', async () => {
    const room = fixture.room('copy', { limits: { retryMs: 10_000 } })
    const missing = accept({ url: `${through()}x`, ref: 'main' })
    asked = 0
    await expect(room.prepare(missing, QUIET)).rejects.toMatchObject({ code: 'workspace.not_found' })
    expect(asked).toBe(1)
    how = 'busy'
    failing = 1
    const hasty = fixture.room('copy').prepare(accept({ url: through(), ref: 'main' }), QUIET)
    await expect(hasty).rejects.toMatchObject({ code: 'workspace.remote_broken' })
    expect(failing).toBe(0)
  })
})

test('submodules and git-LFS pointers are said to be left out, and are what git would leave', async () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 12345\n`
  await repository.change(async builder => {
    await builder.write({
      'big.bin': pointer,
      '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n',
    })
    await builder.commit('large')
    await builder.git(['update-index', '--add', '--cacheinfo', `160000,${'1'.repeat(40)},libs/sub`])
    await builder.git(['commit', '-qm', 'with a submodule'])
  })
  const room = fixture.room('copy')
  // A second time from the snapshot that is there.
  for (let round = 0; round < 2; round += 1) {
    const plan = await room.prepare(accept({ url, ref: 'main' }), QUIET)
    expect(plan.leftOut).toEqual([
      { path: 'repo/libs/sub', reason: 'submodule, not fetched' },
      { path: 'repo/big.bin', reason: 'content in git-LFS, not fetched' },
    ])
    await fixture.inside(plan, async repo => {
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe('')
      expect(await readdir(join(repo, 'libs/sub'))).toEqual([])
    })
    await plan.release()
  }
})
