import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Cache, type CacheItem, Entry, type Unpin } from './index.js'

let dataDir: string
let cache: Cache

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'agirunner-cache-'))
  cache = new Cache(dataDir)
})
afterEach(() => rm(dataDir, { recursive: true }))

async function snapshot(name: string, { bytes = 100, age = 0 } = {}): Promise<string> {
  const path = join(cache.snapshots, 'r', name)
  await mkdir(join(path, 'pins'), { recursive: true })
  await mkdir(join(path, 'repo'))
  await writeFile(join(path, 'repo/file'), 'content')
  await writeFile(
    join(path, 'meta.json'),
    JSON.stringify({ format: 1, url: 'https://x', tenant: null, bytes }),
  )
  const used = new Date(Date.now() - age * 1000)
  await utimes(join(path, 'meta.json'), used, used)
  return path
}

async function slot(id: string): Promise<string> {
  await mkdir(join(dataDir, 'slots', id), { recursive: true })
  return `slots/${id}`
}

function pinned(path: string, holder: string): Unpin {
  const unpin = cache.entry(path).pin(holder)
  if (!unpin) throw new Error(`${path} can't be pinned`)
  return unpin
}

const names = (items: readonly CacheItem[]) => items.map(({ path }) => path.slice(path.lastIndexOf('/') + 1))

test('lists what is whole, last used first, with what it occupies and who uses it', async () => {
  await snapshot('old', { age: 60 })
  const young = await snapshot('young', { bytes: 7 })
  await mkdir(join(cache.snapshots, 'r/half/pins'), { recursive: true })
  await mkdir(join(cache.snapshots, 'staging/w/pins'), { recursive: true })
  const repository = join(cache.repositories, 'r')
  await mkdir(join(repository, 'objects/pack'), { recursive: true })
  await writeFile(join(repository, 'objects/pack/pack-1.pack'), '12345')
  await writeFile(join(repository, 'meta.json'), '{"format":1,"url":"https://x","tenant":null}')
  await utimes(join(repository, 'meta.json'), 1, 1)
  pinned(young, await slot('a'))
  const items = await cache.list()
  expect(names(items)).toEqual(['young', 'old', 'r'])
  expect(items).toMatchObject([
    { kind: 'snapshot', bytes: 7, users: 1 },
    { kind: 'snapshot', bytes: 100, users: 0 },
    { kind: 'repository', bytes: 5, users: 0, meta: { url: 'https://x' } },
  ])
  expect(new Set(items.map(({ id }) => id)).size).toBe(3)
  expect(await cache.bytes()).toBe(112)
})

test('evicts what was not used for longest, and nothing that is used', async () => {
  await snapshot('1', { age: 30 })
  const used = await snapshot('2', { age: 20 })
  await snapshot('3', { age: 10 })
  await snapshot('4')
  const unpin = pinned(used, await slot('a'))
  expect(names((await cache.prune({ maxBytes: 250, minFreeBytes: 0 })).removed)).toEqual(['1', '3'])
  expect((await cache.prune({ maxBytes: 0, minFreeBytes: 0 })).bytes).toBe(100)
  expect(existsSync(join(used, 'repo/file'))).toBe(true)
  await unpin()
  await unpin()
  expect(names((await cache.prune({ maxBytes: 0, minFreeBytes: 0 })).removed)).toEqual(['2'])
  expect(await readdir(join(dataDir, 'trash'))).toEqual([])
})

test('evicts all that is unused when the disk is short of what must stay free', async () => {
  await snapshot('1')
  const { removed, freeBytes } = await cache.prune({ maxBytes: 1e9, minFreeBytes: Number.MAX_SAFE_INTEGER })
  expect(names(removed)).toEqual(['1'])
  expect(freeBytes).toBeGreaterThan(0)
})

test('touching makes it the last to go', async () => {
  const first = await snapshot('first', { age: 60 })
  await snapshot('second', { age: 30 })
  await cache.entry(first).touch()
  expect(names((await cache.prune({ maxBytes: 100, minFreeBytes: 0 })).removed)).toEqual(['second'])
})

test('a pin ends with the folder on whose behalf it is', async () => {
  const path = await snapshot('1')
  pinned(path, await slot('dead'))
  expect(await cache.entry(path).evict()).toBe(false)
  await rm(join(dataDir, 'slots/dead'), { recursive: true })
  expect(await cache.entry(path).evict()).toBe(true)
})

test('who pins what is being evicted is told, and an eviction that died is forgotten', async () => {
  const path = await snapshot('1')
  const holder = await slot('a')
  await writeFile(join(path, 'evicting'), '')
  expect(cache.entry(path).pin(holder)).toBeNull()
  expect(await readdir(join(path, 'pins'))).toEqual([])
  expect(await cache.entry(path).evict()).toBe(false)
  const longAgo = new Date(Date.now() - 3_600_000)
  await utimes(join(path, 'evicting'), longAgo, longAgo)
  pinned(path, holder)
  expect(cache.entry(join(cache.snapshots, 'r/none')).pin(holder)).toBeNull()
})

test('what was set aside by a process that died is removed for good', async () => {
  await mkdir(join(dataDir, 'trash/x/deep'), { recursive: true })
  await cache.emptyTrash()
  expect(await readdir(join(dataDir, 'trash'))).toEqual([])
})

test('nobody who was given a pin ever loses what it pins', async () => {
  for (let round = 0; round < 150; round += 1) {
    const path = await snapshot(`race-${round}`)
    const holders = await Promise.all([1, 2, 3].map(each => slot(`${round}-${each}`)))
    const evict = () =>
      cache
        .entry(path)
        .evict()
        .catch(() => false)
    const evictions = Promise.all([evict(), evict()])
    const pins: (Unpin | null)[] = []
    for (const holder of holders) {
      pins.push(cache.entry(path).pin(holder))
      await new Promise(resolve => setImmediate(resolve))
    }
    await evictions
    if (pins.some(unpin => unpin !== null)) expect(existsSync(join(path, 'repo/file'))).toBe(true)
  }
})

/** Evicts, and does something in the one moment that matters: after the look for pins, before the rename. */
async function evictWith(path: string, between: () => Promise<unknown>): Promise<void> {
  class Watched extends Entry {
    override async holders(): Promise<string[]> {
      const held = await super.holders()
      await between()
      return held
    }
  }
  await new Watched(dataDir, path).evict()
}

test('a pin between the look for pins and the removal is refused', async () => {
  const path = await snapshot('1')
  const holder = await slot('a')
  let unpin: Unpin | null | undefined
  await evictWith(path, async () => {
    unpin = cache.entry(path).pin(holder)
    return await Promise.resolve()
  })
  expect(unpin).toBeNull()
})

test('control: one that does not look for the marker would lose what it pins', async () => {
  const path = await snapshot('1')
  await slot('a')
  await evictWith(path, () => writeFile(join(path, 'pins', encodeURIComponent('slots/a')), ''))
  expect(existsSync(join(path, 'repo/file'))).toBe(false)
})
