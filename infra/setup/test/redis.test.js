import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from '@jest/globals'
import { writePrivateFile } from '../src/files.js'
import { ensureRedis, stopStartedRedis } from '../src/index.js'
import { isAlive, startTimeOf } from '../src/processes.js'
import { askRedis } from '../src/resp.js'
import { readService, recordService } from '../src/service.js'
import { recordedLog, temporaryFolders } from './support.js'

const { REDIS_URL: _, ...env } = process.env
const nothing = {
  PATH: '',
  HOME: '/nonexistent',
  DOCKER_HOST: 'unix:///nonexistent',
  AGIRUNNER_NO_INSTALL: '1',
}

/** @type {string[]} */
const used = []
/** @type {number[]} */
const seen = []
// Before the folders are removed: their state files tell what is to be stopped.
afterEach(async () => {
  for (const dataDir of used.splice(0)) await stopStartedRedis({ dataDir, env, log: () => {} })
  expect(seen.splice(0).filter(pid => startTimeOf(pid) !== null)).toEqual([])
})
const newFolder = temporaryFolders()

/** A data folder whose Redis is stopped after the test, whatever happened in it. */
function newData() {
  const dataDir = newFolder()
  used.push(dataDir)
  return { dataDir, env, ...recordedLog() }
}

/** @param {Parameters<typeof ensureRedis>[0]} options */
async function startRedis(options) {
  const redis = await ensureRedis(options)
  if (redis.pid) seen.push(redis.pid)
  return redis
}

/** @param {string} url @param {...string} words */
const ask = async (url, ...words) => (await askRedis(url, [words], { withinMs: 5000 }))[0]

describe('a private Redis', () => {
  test('is durable, closed to strangers, and shows its password neither in argv nor to other users', async () => {
    const data = newData()
    const redis = await startRedis(data)
    const { password, host } = new URL(redis.url)
    expect(redis.started).toBe(true)
    expect(await ask(redis.url, 'CONFIG', 'GET', 'appendonly')).toBe('appendonly\nyes')
    expect(await ask(redis.url, 'CONFIG', 'GET', 'appendfsync')).toBe('appendfsync\neverysec')
    expect(await ask(redis.url, 'CONFIG', 'GET', 'maxmemory-policy')).toBe('maxmemory-policy\nnoeviction')
    expect(await ask(redis.url, 'CONFIG', 'GET', 'bind')).toBe('bind\n127.0.0.1')
    await expect(ask(`redis://${host}`, 'PING')).rejects.toThrow('NOAUTH')
    expect(readFileSync(`/proc/${redis.pid}/cmdline`, 'utf8')).not.toContain(password)
    for (const file of ['run/redis.json', 'redis/redis.conf', 'redis/redis.log']) {
      expect(statSync(join(data.dataDir, file)).mode & 0o777).toBe(0o600)
    }
    expect(data.lines.join('\n')).toMatch(
      /^setup: redis: using redis-server [\d.]+ on 127\.0\.0\.1:\d+, started/,
    )
    expect(data.lines.join('\n')).not.toContain(password)
  })

  test('is found again, and is stopped only by the call that started it', async () => {
    const data = newData()
    const first = await startRedis(data)
    const second = await startRedis(data)
    expect(second).toMatchObject({ started: false, url: first.url, pid: first.pid })
    await second.stop()
    expect(await ask(first.url, 'PING')).toBe('PONG')
    await first.stop()
    expect(startTimeOf(first.pid ?? 0)).toBeNull()
  })

  test('started by two at once, it is one', async () => {
    const data = newData()
    const both = await Promise.all([startRedis(data), startRedis(data)])
    expect(both.filter(redis => redis.started)).toHaveLength(1)
    expect(both[0].url).toBe(both[1].url)
  })

  test('killed, it comes back with its data, address and password', async () => {
    const data = newData()
    const first = await startRedis(data)
    await ask(first.url, 'SET', 'task', 'queued')
    process.kill(first.pid ?? 0, 'SIGKILL')
    while (startTimeOf(first.pid ?? 0) !== null) await new Promise(setImmediate)
    const second = await startRedis(data)
    expect(second).toMatchObject({ started: true, url: first.url })
    expect(await ask(second.url, 'GET', 'task')).toBe('queued')
    // The handle of the one that died means that one, not its successor.
    await first.stop()
    expect(await ask(second.url, 'PING')).toBe('PONG')
  })

  test('is left to who else uses it, and goes with the last of them', async () => {
    const data = newData()
    const redis = await startRedis(data)
    const file = join(data.dataDir, 'run', 'redis.json')
    const state = readService(file)
    const parent = { pid: process.ppid, startTime: startTimeOf(process.ppid) ?? '' }
    writePrivateFile(file, JSON.stringify({ ...state, users: [parent] }))
    await redis.stop()
    expect(await ask(redis.url, 'PING')).toBe('PONG')
    expect(data.lines).toContain(`setup: redis: left running for process ${process.ppid}`)
    writePrivateFile(file, JSON.stringify({ ...state, users: [], handedOver: true }))
    const last = await startRedis(data)
    await last.stop()
    expect(startTimeOf(redis.pid ?? 0)).toBeNull()
  })

  test('kept, it stays until it is stopped by name', async () => {
    const data = newData()
    const redis = await startRedis({ ...data, keep: true })
    await redis.stop()
    expect(await ask(redis.url, 'PING')).toBe('PONG')
    expect(await stopStartedRedis(data)).toBe(true)
    expect(startTimeOf(redis.pid ?? 0)).toBeNull()
    expect(await stopStartedRedis(data)).toBe(false)
  })

  test('is not confused with a process that got its number', async () => {
    const data = newData()
    const url = 'redis://:x@127.0.0.1:45678'
    recordService(join(data.dataDir, 'run', 'redis.json'), {
      pid: process.ppid,
      startTime: '1',
      url,
      keep: false,
    })
    const before = { pid: process.ppid, startTime: startTimeOf(process.ppid) ?? '' }
    expect(await stopStartedRedis(data)).toBe(false)
    expect((await startRedis(data)).started).toBe(true)
    expect(isAlive(before)).toBe(true)
  })
})

describe('REDIS_URL', () => {
  test('is used as it is, and what answers there is never stopped', async () => {
    const own = await startRedis(newData())
    const { log, lines } = recordedLog()
    const named = await ensureRedis({ dataDir: newFolder(), env: { ...nothing, REDIS_URL: own.url }, log })
    expect(named).toMatchObject({ url: own.url, started: false, pid: null })
    await named.stop()
    expect(await ask(own.url, 'PING')).toBe('PONG')
    expect(lines).toEqual([
      expect.stringMatching(/^setup: redis: using Redis [\d.]+ on 127.*, as REDIS_URL says$/),
    ])
  })

  test('a policy that may drop tasks is mentioned, not changed', async () => {
    const own = await startRedis(newData())
    await ask(own.url, 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    const { log, lines } = recordedLog()
    await ensureRedis({ dataDir: newFolder(), env: { REDIS_URL: own.url }, log })
    expect(lines[1]).toMatch('its maxmemory-policy is allkeys-lru')
    expect(await ask(own.url, 'CONFIG', 'GET', 'maxmemory-policy')).toMatch('allkeys-lru')
  })

  test('where nothing or something else answers, it says where, why and what to do, without the password', async () => {
    const server = createServer(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(
      0,
      '127.0.0.1',
    )
    await once(server, 'listening')
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : 0
    for (const url of [
      'redis://:s3cret@127.0.0.1:1',
      `redis://:s3cret@127.0.0.1:${port}`,
      'redis://:s3cret@:x',
    ]) {
      const error = await ensureRedis({ dataDir: newFolder(), env: { REDIS_URL: url }, log: () => {} }).catch(
        e => e,
      )
      expect(error).toMatchObject({ code: 'redis.unreachable' })
      expect(error.message).toMatch(
        /^no Redis answers at REDIS_URL .*; .*; start it, correct REDIS_URL, or unset it/,
      )
      expect(error.message).not.toContain('s3cret')
    }
    server.close()
  })
})

test('without a Redis and with AGIRUNNER_NO_INSTALL, it says what to install', async () => {
  const error = await ensureRedis({ dataDir: newFolder(), env: nothing, log: () => {} }).catch(e => e)
  expect(error).toMatchObject({ code: 'redis.missing' })
  expect(error.message).toMatch('no Redis server; ')
  expect(error.message).toMatch('AGIRUNNER_NO_INSTALL forbids installing')
  expect(error.message).toMatch('apt-get install redis-tools')
})
