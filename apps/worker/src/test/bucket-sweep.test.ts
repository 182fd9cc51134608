import { redisNames, type TaskResult } from '@agirunner/contracts'
import { attemptFolder, Credentials, expiryKey, ObjectStore } from '@agirunner/storage'
import {
  removeQueue,
  startRedis,
  startS3,
  type TestRedis,
  type TestS3,
  uniqueQueue,
} from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { sweepBucket } from '../cleanup/bucket-sweep.js'
import { TaskRecords } from '../intake/records.js'
import { buildResult, NOTHING_REACHED } from '../report/result.js'

const NOW = Date.parse('2026-06-01T00:00:00.000Z')
const HOUR = 3600_000

let s3: TestS3
let server: TestRedis
let redis: Redis
const queue = uniqueQueue()
const names = redisNames(queue)
const stores: ObjectStore[] = []
const warnings: string[] = []

beforeAll(async () => {
  s3 = await startS3()
  server = await startRedis()
  redis = new Redis(server.url)
})
afterEach(async () => {
  for (const key of await s3.keys()) await s3.delete(key)
  for (const store of stores.splice(0)) await store.close()
  warnings.length = 0
})
afterAll(async () => {
  redis.disconnect()
  await removeQueue(server.url, queue)
  await server.stop()
  await s3.stop()
})

function open(): ObjectStore {
  const { bucket, endpoint } = s3
  const credentials = new Credentials(s3)
  const store = new ObjectStore({
    bucket,
    prefix: 'runs/',
    endpoint,
    region: 'us-east-1',
    pathStyle: true,
    credentials,
  })
  stores.push(store)
  return store
}

async function sweep(store = open(), now = NOW): Promise<number> {
  const log = { warn: (text: string) => void warnings.push(text) }
  return await sweepBucket({ store, records: new TaskRecords(redis, names), log: log as never }, now)
}

/** An attempt with two files and a marker. @returns its folder */
async function leave(
  of: { tenantId?: string; taskId: string; fence?: number },
  at: number,
  unless: 'nothing' | 'named' = 'nothing',
): Promise<string> {
  const { tenantId = 'acme', taskId, fence = 1 } = of
  const folder = attemptFolder({ tenantId, taskId, fence, nonce: '0123abcd' })
  await s3.write(`runs/${expiryKey({ at: new Date(at), unless, folder })}`, Buffer.alloc(0))
  for (const name of ['log', 'files/1-a.txt']) await s3.write(`runs/${folder}${name}`, Buffer.from(name))
  return folder
}

async function finish(taskId: string, uri: string | null): Promise<void> {
  const result: TaskResult = {
    ...buildResult({
      identity: { taskId, tenantId: 'acme', labels: {} },
      task: null,
      status: 'succeeded',
      failure: null,
      createdAt: '2026-05-01T00:00:00.000Z',
      attempts: [],
      reached: NOTHING_REACHED,
      worker: { id: 'w', host: 'h' },
    }),
    logs: { bytes: 1, lines: 1, truncated: false, uri },
  }
  await redis.set(names.result(taskId), JSON.stringify(result))
}

/** The folders that still have files, and how many markers there are. */
async function left(): Promise<{ folders: string[]; markers: number }> {
  const keys = (await s3.keys()).map(key => key.slice('runs/'.length))
  const files = keys.filter(key => !key.startsWith('_expiries/'))
  const folders = new Set(files.map(key => key.split('/').slice(0, 3).join('/')))
  return { folders: [...folders].map(folder => `${folder}/`), markers: keys.length - files.length }
}

describe('the sweeper of the bucket', () => {
  it('deletes what has expired, whole, and nothing of anybody else', async () => {
    await leave({ taskId: 'old' }, NOW - HOUR)
    await leave({ taskId: 'now' }, NOW)
    const young = await leave({ taskId: 'young' }, NOW + 1)
    const namesake = await leave({ taskId: 'old', tenantId: 'acme-2' }, NOW + HOUR)
    const next = await leave({ taskId: 'old', fence: 11 }, NOW + HOUR)
    expect(await sweep()).toBe(2)
    const { folders, markers } = await left()
    expect({ folders: folders.toSorted(), markers }).toEqual({
      folders: [young, namesake, next].toSorted(),
      markers: 3,
    })
    expect(await sweep(open(), NOW + 2)).toBe(1)
  })

  it('looks at no marker beyond the first that is in the future', async () => {
    await leave({ taskId: 'old' }, NOW - HOUR)
    for (const hours of [1, 2, 3, 4]) await leave({ taskId: `later-${hours}` }, NOW + hours * HOUR)
    const store = open()
    let seen = 0
    const list = store.list.bind(store)
    store.list = async function* (below) {
      for await (const key of list(below)) {
        if (below === '_expiries/') seen += 1
        yield key
      }
    }
    expect(await sweep(store)).toBe(1)
    expect(seen).toBe(2)
  })

  it('keeps for ever what a result names, and deletes the attempts that none names', async () => {
    const kept = await leave({ taskId: 'kept', fence: 2 }, NOW - HOUR, 'named')
    await leave({ taskId: 'kept', fence: 1 }, NOW - HOUR, 'named')
    await finish('kept', open().uriOf(`${kept}log`))
    expect(await sweep()).toBe(1)
    expect(await left()).toEqual({ folders: [kept], markers: 0 })
  })

  it('waits for the result of a task that has none yet, and keeps what it does not know', async () => {
    const waiting = await leave({ taskId: 'waiting' }, NOW - HOUR, 'named')
    await redis.hset(names.record('waiting'), 'tenantId', 'acme', 'state', 'queued')
    await redis.hset(names.record('waiting'), 'task', JSON.stringify({ tenantId: 'acme' }))
    const strange = await leave({ taskId: 'strange' }, NOW - HOUR, 'named')
    expect(await sweep()).toBe(0)
    const { folders, markers } = await left()
    expect({ folders: folders.toSorted(), markers }).toEqual({
      folders: [strange, waiting].toSorted(),
      markers: 1,
    })
    expect(warnings).toEqual([expect.stringContaining('kept for ever')])
    await finish('waiting', null)
    expect(await sweep()).toBe(1)
    expect(await left()).toEqual({ folders: [strange], markers: 0 })
  })

  it('may be done by several workers at once', async () => {
    for (let index = 0; index < 6; index += 1) await leave({ taskId: `old-${index}` }, NOW - index * HOUR)
    await Promise.all([sweep(), sweep(), sweep()])
    expect(await s3.keys()).toEqual([])
    expect(warnings).toEqual([])
  })

  it('that is ended in the middle leaves the marker for the next one', async () => {
    await leave({ taskId: 'old' }, NOW - HOUR)
    const store = open()
    const remove = store.delete.bind(store)
    store.delete = async key => {
      if (key.endsWith('files/1-a.txt')) return await remove(key)
      throw new Error('the worker was killed')
    }
    expect(await sweep(store)).toBe(0)
    expect(warnings).toHaveLength(1)
    expect((await left()).markers).toBe(1)
    expect(await sweep()).toBe(1)
    expect(await s3.keys()).toEqual([])
  })

  it('touches nothing that is not its own', async () => {
    await s3.write('runs/_expiries/readme.txt', Buffer.from('x'))
    await s3.write('runs/_expiries/2020-01-01T00:00:00.000Z/nothing/acme/../1-0123abcd', Buffer.from('x'))
    await s3.write('acme/old/1-0123abcd/log', Buffer.from('x'))
    await leave({ taskId: 'old' }, NOW - HOUR)
    expect(await sweep()).toBe(1)
    expect(await s3.keys()).toHaveLength(3)
  })
})
