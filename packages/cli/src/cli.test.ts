import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { FAILURES, type LiveContainer, redisNames, type TaskResult } from '@agirunner/contracts'
import { announceWorker, ScriptedWorker } from '@agirunner/producer/testing'
import { BASE_IMAGE } from '@agirunner/setup'
import { eventually, removeQueue, startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'

const BIN = fileURLToPath(new URL('../bin/agirunner.js', import.meta.url))

let server: TestRedis
let redis: Redis
let queue: string
let folder: string

beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.url)
  folder = await mkdtemp(join(tmpdir(), 'agirunner-cli-'))
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
  await rm(folder, { recursive: true })
})
beforeEach(() => {
  queue = uniqueQueue()
})
afterEach(() => removeQueue(server.url, queue))

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** A command that runs; `ended` when it has. */
function start(
  args: string[],
  { input = '', env = {} }: { input?: string; env?: Record<string, string> } = {},
) {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: {
      PATH: process.env.PATH,
      REDIS_URL: server.url,
      AGIRUNNER_QUEUE: queue,
      AGIRUNNER_DATA: folder,
      ...env,
    },
    stdio: 'pipe',
  })
  child.stdin.end(input)
  const seen = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (seen.stdout += String(chunk)))
  child.stderr.on('data', chunk => (seen.stderr += String(chunk)))
  const ended = once(child, 'close').then(([code]): Ended => ({ code: code as number | null, ...seen }))
  return { child, seen, ended }
}

const cli = (args: string[], options?: Parameters<typeof start>[1]) => start(args, options).ended
const task = (taskId: string, script = 'true') => JSON.stringify({ taskId, run: { script } })

async function begun(taskId: string): Promise<ScriptedWorker> {
  const worker = new ScriptedWorker(redis, queue, taskId)
  await eventually(() => redis.exists(redisNames(queue).record(taskId)), {
    every: 5,
    what: `the record of ${taskId}`,
  })
  await worker.begin()
  return worker
}

const failure = (code: keyof typeof FAILURES, message: string): TaskResult['failure'] => ({
  code,
  message,
  phase: 'run',
  ...FAILURES[code],
})

describe('agirunner', () => {
  it('shows help and its version, and refuses what it does not know', async () => {
    expect(await cli(['--help'])).toMatchObject({ code: 0, stderr: '' })
    expect((await cli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect((await cli(['run', '--help'])).stdout).toContain('usage: agirunner run FILE|-')
    expect(await cli(['runn'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'error: there is no command "runn"; it is not known; did you mean "run"?\n',
    })
    expect(await cli([])).toMatchObject({ code: 2, stdout: '' })
  })

  it('says what to do without an address of Redis, and when Redis is away', async () => {
    const nowhere = await cli(['result', 't-1'], { env: { REDIS_URL: '' } })
    expect(nowhere.code).toBe(5)
    expect(nowhere.stderr).toMatch(/^error: no Redis is known; .*; run `agirunner up` or set REDIS_URL\n$/)
    const away = await cli(['result', 't-1'], { env: { REDIS_URL: 'redis://:hunter2@127.0.0.1:1' } })
    expect(away.code).toBe(5)
    expect(away.stderr).toMatch(
      /^error: Redis at redis:\/\/127.0.0.1:1\/0 can't be used; .*ECONNREFUSED.*; check/,
    )
    expect(away.stderr).not.toContain('hunter2')
  })

  it('warns of unknown variables and stops at bad values', async () => {
    const { stderr } = await cli(['schema', 'task'], { env: { AGIRUNNER_QUEU: 'x' } })
    expect(stderr).toBe(
      'agirunner: warning: AGIRUNNER_QUEU is no variable of the runtime; did you mean AGIRUNNER_QUEUE?\n',
    )
    expect(await cli(['schema', 'task'], { env: { AGIRUNNER_NO_INSTALL: 'maybe' } })).toMatchObject({
      code: 2,
    })
  })

  it('prints JSON Schemas', async () => {
    for (const name of ['task', 'result', 'event']) {
      const { stdout } = await cli(['schema', name])
      expect(JSON.parse(stdout)).toMatchObject({ type: 'object' })
    }
    expect(await cli(['schema', 'tsk'])).toMatchObject({ code: 2 })
  })
})

describe('enqueue', () => {
  it('takes JSON and NDJSON, and is repeatable', async () => {
    const file = join(folder, 'one.json')
    await writeFile(file, JSON.stringify({ taskId: 'a', run: { script: 'true' } }, null, 2))
    const ndjson = join(folder, 'two.ndjson')
    await writeFile(ndjson, `${task('b')}\n\n${task('c')}\n`)
    expect(await cli(['enqueue', file, ndjson])).toEqual({
      code: 0,
      stdout: 'a: created\nb: created\nc: created\n',
      stderr: '',
    })
    const again = await cli(['enqueue', '-', '--json'], { input: `${task('a')}\n${task('d')}` })
    expect(again.stdout).toBe('{"taskId":"a","status":"same"}\n{"taskId":"d","status":"created"}\n')
  })

  it('refuses all when one is invalid, with every problem', async () => {
    const input = `${task('a')}\n{"taskId":"b","run":{},"labls":{}}`
    const { code, stderr } = await cli(['enqueue', '-'], { input })
    expect(code).toBe(2)
    expect(stderr).toContain('  - task 2 of 2 (b): labls: unknown key; did you mean "labels"?')
    expect(stderr).toContain('  - task 2 of 2 (b): run: needs exactly one of')
    expect(await cli(['result', 'a'])).toMatchObject({ code: 2 })
  })

  it.each([
    ['no JSON at all', '{"taskId":', 'stdin holds no task; it is no JSON'],
    ['a broken line', `${task('a')}\n{nope`, 'stdin:2 holds no task'],
    ['nothing', '', 'it is no JSON'],
  ])('refuses %s', async (_what, input, message) => {
    const { code, stderr } = await cli(['enqueue', '-'], { input })
    expect([code, stderr.startsWith('error: ')]).toEqual([2, true])
    expect(stderr).toContain(message)
  })

  it('refuses another task under a known id, and a file that is not there', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    const { code, stderr } = await cli(['enqueue', '-'], { input: task('a', 'false') })
    expect([code, stderr]).toEqual([2, expect.stringContaining("error: task a can't be enqueued; ")])
    expect(await cli(['enqueue', '/nonexistent'])).toMatchObject({ code: 2 })
  })
})

describe('result, logs, events, patch, cancel', () => {
  it('knows no unknown task', async () => {
    for (const command of ['result', 'logs', 'events', 'patch', 'cancel']) {
      const { code, stderr } = await cli([command, 'nobody'])
      expect([code, stderr]).toEqual([2, expect.stringContaining('error: task nobody is unknown; ')])
    }
  })

  it('says that a task has not finished', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    expect(await cli(['result', 'a', '--json'])).toMatchObject({ code: 6, stdout: '' })
    expect(await cli(['patch', 'a'])).toMatchObject({ code: 6, stdout: '' })
  })

  it('prints what there is of a finished task', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    const worker = await begun('a')
    await worker.log('out\n')
    await worker.log('err\n', 'stderr')
    await worker.event('phase.finished', 'workspace', { durationMs: 12 })
    const patch = 'diff --git a/x b/x\n'
    await writeFile(join(folder, 'a.patch'), patch)
    const sha256 = createHash('sha256').update(patch).digest('hex')
    const stored = { uri: pathToFileURL(join(folder, 'a.patch')).href, sizeBytes: patch.length, sha256 }
    const nothing = { commits: [], commit: null, bundle: null, pushed: null, notes: [] }
    const changes = { files: [], insertions: 0, deletions: 0, tree: '', patch: stored, ...nothing }
    const result = await worker.finish({
      status: 'failed',
      failure: failure('image.not_found', 'no such image'),
      changes,
    })

    expect(await cli(['result', 'a', '--json'])).toEqual({
      code: 2,
      stdout: `${JSON.stringify(result)}\n`,
      stderr: '',
    })
    expect(JSON.parse((await cli(['result', 'a'])).stdout)).toEqual(result)
    expect(await cli(['logs', 'a'])).toEqual({ code: 0, stdout: 'out\n', stderr: 'err\n' })
    expect(await cli(['logs', 'a', '-f', '--from', '2'])).toEqual({ code: 0, stdout: '', stderr: 'err\n' })
    const entries = (await cli(['logs', 'a', '--json'])).stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as unknown)
    expect(entries).toMatchObject([
      { seq: 1, text: 'out\n' },
      { seq: 2, stream: 'stderr' },
    ])
    expect((await cli(['events', 'a', '-f'])).stdout).toMatch(
      /phase\.finished {2,}workspace {2,}12 ms\n.*task\.finished/,
    )
    expect((await cli(['events', 'a', '--json'])).stdout.trim().split('\n')).toHaveLength(3)
    expect(await cli(['patch', 'a'])).toEqual({ code: 0, stdout: patch, stderr: '' })
    expect(await cli(['cancel', 'a'])).toEqual({
      code: 0,
      stdout: 'a: it has finished already\n',
      stderr: '',
    })
  })

  it('follows a log while it grows, and ends with the task', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    const worker = await begun('a')
    const following = start(['logs', 'a', '-f'])
    await worker.log('one ')
    await eventually(() => following.seen.stdout === 'one ', { what: 'the first piece' })
    await worker.log('two')
    await worker.finish()
    expect(await following.ended).toEqual({ code: 0, stdout: 'one two', stderr: '' })
  })

  it('cancels with a reason', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    expect(await cli(['cancel', 'a', '--reason', 'enough', '--json'])).toMatchObject({
      code: 0,
      stdout: '{"taskId":"a","cancel":"requested"}\n',
    })
    expect(await redis.get(redisNames(queue).cancel('a'))).toBe('enough')
  })
})

describe('run', () => {
  it('shows phases, log and summary, and exits with the result', async () => {
    await announceWorker(redis, queue, 'w-1')
    const running = start(['run', '-'], { input: task('a') })
    const worker = await begun('a')
    await worker.event('phase.finished', 'workspace', { durationMs: 12 })
    await worker.log('hello\n')
    await worker.log('oops\n', 'stderr')
    await worker.finish({ status: 'failed', failure: failure('task.exit_nonzero', 'it ended with 3') })
    const { code, stdout, stderr } = await running.ended
    expect([code, stdout]).toEqual([1, 'hello\n'])
    const others = stderr.split('\n').filter(line => line !== '' && !line.startsWith('agirunner: '))
    expect(others).toEqual([
      'oops',
      'error: task a failed (task.exit_nonzero); it ended with 3; look at the log; the command ended with that status',
    ])
    expect(stderr).toContain('agirunner: workspace 12 ms\n')
    expect(stderr).toContain('agirunner: failed, exit 0, ')
  })

  it('says at once that no worker is alive, and waits; --json leaves stdout to the result', async () => {
    const file = join(folder, 'json.json')
    await writeFile(file, task('a'))
    const running = start(['run', file, '--json'])
    await eventually(() => running.seen.stderr.includes('no worker is alive on queue'), {
      what: 'the warning',
    })
    const worker = await begun('a')
    await worker.log('hello\n')
    const result = await worker.finish()
    const { code, stdout, stderr } = await running.ended
    expect([code, JSON.parse(stdout)]).toEqual([0, result])
    expect(stderr).toContain('hello\n')
  })

  it('gives the result there is for the same task again', async () => {
    await cli(['enqueue', '-'], { input: task('a') })
    const worker = await begun('a')
    await worker.log('hello\n')
    await worker.finish({ status: 'timed_out', failure: failure('task.timeout', 'it ran 5 s') })
    const again = await cli(['run', '-'], { input: task('a') })
    expect(again).toMatchObject({ code: 4, stdout: 'hello\n' })
    expect(again.stderr).toContain('a is known already')
    expect(again.stderr).not.toContain('no worker')
  })

  it('asks for a cancel at the first Ctrl-C, and leaves at the second', async () => {
    await announceWorker(redis, queue, 'w-1')
    const running = start(['run', '-'], { input: task('a') })
    const worker = await begun('a')
    await worker.log('working\n')
    await eventually(() => running.seen.stdout === 'working\n', { what: 'the log' })
    running.child.kill('SIGINT')
    await eventually(() => redis.exists(redisNames(queue).cancel('a')), { what: 'the cancel' })
    await worker.finish({ status: 'canceled', failure: failure('task.canceled', 'it was asked for') })
    expect(await running.ended).toMatchObject({ code: 3 })

    const impatient = start(['run', '-'], { input: task('b') })
    await (await begun('b')).log('working\n')
    await eventually(() => impatient.seen.stdout === 'working\n', { what: 'the log' })
    impatient.child.kill('SIGINT')
    await eventually(() => redis.exists(redisNames(queue).cancel('b')), { what: 'the cancel' })
    impatient.child.kill('SIGINT')
    expect(await impatient.ended).toMatchObject({ code: 130 })
  })

  it('goes on when nobody reads its output any more', async () => {
    await announceWorker(redis, queue, 'w-1')
    const running = start(['run', '-'], { input: task('a') })
    const worker = await begun('a')
    running.child.stdout.destroy()
    for (let i = 0; i < 50; i += 1) await worker.log('x'.repeat(10_000))
    await worker.finish()
    expect(await running.ended).toMatchObject({ code: 0 })
  })

  it('refuses an invalid task with every problem', async () => {
    const { code, stderr, stdout } = await cli(['run', '-', '--json'], {
      input: '{"taskId":"1","run":{},"x":1}',
    })
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr.split('\n').filter(line => line.startsWith('  - '))).toHaveLength(3)
  })
})

describe('cache', () => {
  let data: string
  beforeEach(async () => {
    data = await mkdtemp(join(tmpdir(), 'agirunner-cli-cache-'))
    for (const [name, age] of [
      ['old', 3600],
      ['new', 60],
    ] as const) {
      const entry = join(data, 'snapshots/r', name)
      await mkdir(join(entry, 'pins'), { recursive: true })
      const meta = {
        format: 2,
        url: 'https://git.example/r',
        tenant: null,
        commit: 'c'.repeat(40),
        bytes: 1024,
      }
      await writeFile(join(entry, 'meta.json'), JSON.stringify(meta))
      const used = new Date(Date.now() - age * 1000)
      await utimes(join(entry, 'meta.json'), used, used)
    }
    await mkdir(join(data, 'slots/s'), { recursive: true })
  })
  afterEach(() => rm(data, { recursive: true }))
  const cache = (...args: string[]) => cli(['cache', ...args], { env: { AGIRUNNER_DATA: data } })
  const listed = async () => {
    const { stdout } = await cache('ls', '--json')
    const lines = stdout.split('\n').filter(line => line !== '')
    return lines.map(line => JSON.parse(line) as { id: string; path: string; users: number })
  }

  it('lists what is there, for people and for programs', async () => {
    const { code, stdout, stderr } = await cache('ls')
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^ID +KIND +SIZE .*\n\S+ +snapshot +1Ki +1 min \d+ s ago +0 +cccccccccccc +- +https:/,
    )
    expect(stderr).toBe('agirunner: 2 entries, 2Ki\n')
    expect((await listed()).map(({ path }) => path.slice(-3))).toEqual(['new', 'old'])
    expect((await cli(['doctor'], { env: { AGIRUNNER_DATA: data } })).stdout).toMatch(
      /^ok {4}cache {11}0 repositories and 2 snapshots, 2Ki of 20Gi$/m,
    )
  })

  it('removes by id and by age, and nothing that is used', async () => {
    await writeFile(join(data, 'snapshots/r/old/pins', encodeURIComponent('slots/s')), '')
    const [newest, oldest] = await listed()
    const kept = await cache('rm', newest?.id ?? '', oldest?.id ?? '')
    expect(kept).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/a task uses it.*\n.*removed 1 of 2\n/),
    })
    expect(await listed()).toMatchObject([{ id: oldest?.id, users: 1 }])
    expect((await cache('prune', '--to', '0')).stderr).toMatch(/removed 0 entries, 0; 1Ki are kept/)
    await rm(join(data, 'slots/s'), { recursive: true })
    expect((await cache('prune')).stderr).toMatch(/removed 0 entries/)
    expect((await cache('prune', '--to', '0')).stderr).toMatch(/removed 1 entries, 1Ki; 0 are kept/)
  })

  it.each([
    [['cache'], /needs "ls", "rm" or "prune"/],
    [['cache', 'clear'], /use ls, rm or prune/],
    [['cache', 'rm'], /needs an ID/],
    [['cache', 'rm', 'x1'], /nothing was removed/],
    [['cache', 'ls', 'x'], /takes no "x"/],
    [['cache', 'prune', '--to', 'lots'], /--to can't be "lots"/],
  ])('tells what is wrong with %j', async (args, message) => {
    const { code, stderr } = await cli(args, { env: { AGIRUNNER_DATA: data } })
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)])
  })
})

describe('doctor', () => {
  it('finds a Redis, whatever else there is', async () => {
    const { code, stdout } = await cli(['doctor', '--json'])
    const findings = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { check: string; level: string })
    expect(findings).toContainEqual(expect.objectContaining({ check: 'redis', level: 'ok' }))
    expect(code).toBe(findings.some(({ level }) => level === 'bad') ? 5 : 0)
  })

  it('tells how to fix a Redis that is away', async () => {
    const { code, stdout } = await cli(['doctor'], { env: { REDIS_URL: 'redis://127.0.0.1:1' } })
    expect(code).toBe(5)
    expect(stdout).toMatch(/^bad {3}redis .*ECONNREFUSED.*\n {22}fix: start it/)
  })

  it('lists the catalog, and what of it is here', async () => {
    const { stdout } = await cli(['doctor'])
    expect(stdout).toContain(`debian-base: ${BASE_IMAGE}, here.`)
    expect(stdout.match(/^ok {4}catalog /gm)).toHaveLength(10)
  })

  it('looks into an image', async () => {
    const { code, stdout } = await cli(['doctor', '--image', 'debian-base', '--json'])
    const findings = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { check: string; level: string; found: string })
    expect(code).toBe(0)
    expect(findings.map(({ check, level }) => `${check} ${level}`)).toEqual([
      'image ok',
      'bootstrap ok',
      'packages ok',
      'user ok',
      'certificates ok',
      'runtimes ok',
    ])
    expect(findings[5]?.found).toContain('git version')
  })

  it('says why an image is none', async () => {
    const { code, stdout } = await cli(['doctor', '--image', 'No/Image'])
    expect(code).toBe(5)
    expect(stdout).toMatch(/^bad {3}image .*spec\.invalid: .*lower-case/)
  })
})

describe('agirunner top', () => {
  const live = (name: string, used: number | null): LiveContainer => ({
    id: name,
    name,
    kind: 'task',
    status: 'running',
    taskId: name,
    attempt: 1,
    tenantId: 'default',
    labels: {},
    image: 'debian:12',
    imageDigest: null,
    distro: null,
    cpu: { used, limit: 1 },
    memory: { used: 1, limit: 2 },
    pids: { used: 1, limit: 2 },
    network: 'none',
    startedAt: null,
    lastOutput: null,
    worker: 'w-1',
  })
  const tell = async (...containers: LiveContainer[]) => {
    await announceWorker(redis, queue, 'w-1')
    const record = { at: new Date().toISOString(), containers }
    await redis.set(redisNames(queue).containers('w-1'), JSON.stringify(record))
  }

  it('prints the busiest first, once', async () => {
    await tell(live('idle', null), live('busy', 0.9), live('calm', 0.1))
    const { code, stdout, stderr } = await cli(['top', '--once'])
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout.split('\n').map(line => line.split(' ')[0])).toEqual(['NAME', 'busy', 'calm', 'idle', ''])
    const json = (await cli(['top', '--once', '--json'])).stdout.trimEnd().split('\n')
    expect(json.map(line => (JSON.parse(line) as { name: string }).name)).toEqual(['busy', 'calm', 'idle'])
  })

  it('goes on with what has changed, until Ctrl-C', async () => {
    await tell(live('first', 0.5))
    const { child, seen, ended } = start(['top'])
    await eventually(() => seen.stdout.includes('first'), { what: 'the first table' })
    await tell(live('second', 0.5))
    await eventually(() => seen.stdout.includes('second'), { what: 'the second table' })
    child.kill('SIGINT')
    const { code, stdout, stderr } = await ended
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout.match(/^NAME/gm)).toHaveLength(2)
  })
})
