import { readFileSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { LogEntry, TaskInput, TaskResult } from '@agirunner/contracts'
import type { TestWorker } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, type World } from './support.js'

const MIB = 2 ** 20
const SECRET = 'pa55word-of-the-operator'
const TEST_MS = 120_000

let world: World
let worker: TestWorker
beforeAll(async () => {
  world = await createWorld()
  worker = await world.startWorker({
    AGIRUNNER_CONCURRENCY: '3',
    AGIRUNNER_SECRET_ENV: 'GIT_PASSWORD,GIT_PIN',
    GIT_PIN: 'abcde',
    GIT_PASSWORD: SECRET,
  })
})
afterAll(async () => await world.close())

async function enqueue(script: string, more: Omit<TaskInput, 'taskId' | 'run'> = {}): Promise<string> {
  const taskId = newTaskId('log')
  await world.producer.enqueue({ taskId, run: { script }, ...more })
  return taskId
}

async function run(script: string, more: Omit<TaskInput, 'taskId' | 'run'> = {}): Promise<TaskResult> {
  return await world.producer.waitForResult(await enqueue(script, more))
}

async function read(taskId: string, from = 1): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const entry of world.producer.logs(taskId, { follow: true, from })) entries.push(entry)
  return entries
}

const textOf = (entries: readonly LogEntry[], stream = 'stdout') =>
  entries
    .filter(entry => entry.stream === stream)
    .map(({ text }) => text)
    .join('')

async function artifactOf({ logs }: TaskResult): Promise<Buffer> {
  return await readFile(fileURLToPath(logs?.uri ?? ''))
}

/** The worker's own resident memory, in bytes. */
function residentBytes(): number {
  const status = readFileSync(`/proc/${worker.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
}

/** How far it rises above what it was while the work goes on. */
async function growthDuring(work: () => Promise<void>): Promise<number> {
  const before = residentBytes()
  let most = before
  const watching = setInterval(() => {
    most = Math.max(most, residentBytes())
  }, 20)
  try {
    await work()
  } finally {
    clearInterval(watching)
  }
  return most - before
}

/** Characters of one to four bytes, so that every border of a read lies in one somewhere. */
const LINES = 100_000
const PRINT = `perl -e 'for ($i = 0; $i < ${LINES}; $i++) { print "$i \\xc3\\xb6\\xe2\\x82\\xac\\xf0\\x9d\\x84\\x9e\\n" }'`
const EXPECTED = Array.from({ length: LINES }, (_, index) => `${index} ö€𝄞\n`).join('')

describe('a hundred thousand lines, as fast as a container can', () => {
  it('come complete, in order and once: to a follower, to one that is late, to one that resumes', async () => {
    const taskId = await enqueue(PRINT)
    const following = read(taskId)
    const late = (async () => {
      for await (const entry of world.producer.logs(taskId, { follow: true })) if (entry.seq > 3) break
      return await read(taskId)
    })()
    const resuming = resume(taskId)
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({ status: 'succeeded', logs: { lines: LINES, truncated: false } })
    const bytes = Buffer.byteLength(EXPECTED)
    expect(result.logs?.bytes).toBe(bytes)
    for (const entries of [await following, await late, await resuming, await read(taskId)]) {
      expect(textOf(entries) === EXPECTED).toBe(true)
      expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index + 1))
      expect(entries.every((entry, index) => index === 0 || endOf(entries[index - 1]) === entry.offset)).toBe(
        true,
      )
    }
    expect((await artifactOf(result)).equals(Buffer.from(EXPECTED))).toBe(true)
  }, 60_000)

  const endOf = (entry: LogEntry | undefined) => (entry ? entry.offset + Buffer.byteLength(entry.text) : 0)

  /** Reads a little at a time, each time anew from where the last ended. */
  async function resume(taskId: string): Promise<LogEntry[]> {
    const entries: LogEntry[] = []
    for (let more = true; more; ) {
      more = false
      const upTo = entries.length + 40
      for await (const entry of world.producer.logs(taskId, { follow: true, from: entries.length + 1 })) {
        entries.push(entry)
        more = entries.length >= upTo
        if (more) break
      }
    }
    return entries
  }
})

describe('a task that prints too much', () => {
  it(
    'is told by its head and its tail, costs the worker no memory, and runs on',
    async () => {
      let result: TaskResult | undefined
      const growth = await growthDuring(async () => {
        result = await run('yes | head -c 400000000; echo the end', { limits: { logBytes: '1Mi' } })
      })
      expect(result).toMatchObject({
        status: 'succeeded',
        logs: { bytes: 400_000_008, lines: 200_000_001, truncated: true },
      })
      const log = await artifactOf(result as TaskResult)
      expect(log.length).toBeLessThanOrEqual(MIB)
      expect(log.length).toBeGreaterThan(MIB - 200)
      expect(log.toString()).toMatch(
        /^(y\n)+agirunner: \d+ bytes of the log are left out here\n(y\n)+the end\n$/,
      )
      expect(growth).toBeLessThan(64 * MIB)
    },
    TEST_MS,
  )

  it(
    'prints a line of 1 GB without an end, and is ended at the ceiling',
    async () => {
      let result: TaskResult | undefined
      const growth = await growthDuring(async () => {
        result = await run('head -c 1500000000 /dev/zero | tr "\\0" x; echo not this')
      })
      expect(result).toMatchObject({
        status: 'failed',
        failure: { code: 'task.log_limit' },
        exit: { cause: 'limit' },
        logs: { truncated: true },
      })
      expect((await artifactOf(result as TaskResult)).length).toBeLessThanOrEqual(64 * MIB)
      expect(growth).toBeLessThan(64 * MIB)
    },
    TEST_MS,
  )

  it(
    'keeps no other task waiting for its first output',
    async () => {
      const quiet: number[] = []
      const flooded: number[] = []
      for (let round = 0; round < 5; round += 1) quiet.push(await firstOutputMs())
      const flood = await enqueue('yes >&2', { limits: { timeout: 60, logBytes: '1Mi' } })
      for await (const _ of world.producer.logs(flood, { follow: true })) break
      for (let round = 0; round < 5; round += 1) flooded.push(await firstOutputMs())
      await world.producer.cancel(flood)
      await world.producer.waitForResult(flood)
      const median = (values: number[]) => values.toSorted((a, b) => a - b)[2] ?? 0
      // Two cores are shared with a loop that takes a whole one: what is asserted is that nobody starves.
      expect(median(flooded)).toBeLessThan(median(quiet) * 5 + 500)
    },
    TEST_MS,
  )

  async function firstOutputMs(): Promise<number> {
    const since = performance.now()
    const taskId = await enqueue('echo first')
    for await (const _ of world.producer.logs(taskId, { follow: true })) break
    const took = performance.now() - since
    await world.producer.waitForResult(taskId)
    return took
  }
})

describe('what a terminal might take for something else', () => {
  it('comes as it was printed: escapes, invalid UTF-8, thousands of tiny writes', async () => {
    const script = String.raw`
      printf '\033]0;title\007\033]8;;http://x\007link\033]8;;\007\033[2J\n'
      printf 'a\377\376b\303(\200\342\202'
      perl -e '$| = 1; print "$_," for 1..5000'`
    const taskId = await enqueue(script)
    const result = await world.producer.waitForResult(taskId)
    const many = Array.from({ length: 5000 }, (_, index) => `${index + 1},`).join('')
    const bytes = Buffer.concat([
      Buffer.from('\x1b]0;title\x07\x1b]8;;http://x\x07link\x1b]8;;\x07\x1b[2J\na', 'latin1'),
      Buffer.from([0xff, 0xfe, 0x62, 0xc3, 0x28, 0x80, 0xe2, 0x82]),
      Buffer.from(many),
    ])
    expect((await artifactOf(result)).equals(bytes)).toBe(true)
    expect(result.logs).toMatchObject({ bytes: bytes.length, lines: 2, truncated: false })
    expect(textOf(await read(taskId)).endsWith(many)).toBe(true)
  }, 60_000)
})

describe('a secret of the task', () => {
  it('is masked in every form, in the log and in what is stored of it', async () => {
    const half = Math.floor(SECRET.length / 2)
    const source = {
      type: 'git_remote' as const,
      url: world.repoUrl,
      credentials: { username: 'u', password: { secretRef: 'env:GIT_PASSWORD' } },
    }
    const script = `
      printf '${SECRET.slice(0, half)}'; sleep 0.3; printf '${SECRET.slice(half)}\\n'
      printf '${SECRET}' | base64; printf 'x${SECRET}' | base64; printf 'xy${SECRET}' | base64
      printf '${SECRET}' | od -An -tx1 -v | tr -d ' \\n'; echo
      echo '${encodeURIComponent(SECRET)}' >&2; echo plain`
    const taskId = await enqueue(script, { workspace: { source } })
    const result = await world.producer.waitForResult(taskId)
    expect(result.status).toBe('succeeded')
    const entries = await read(taskId)
    expect(textOf(entries)).toMatch(
      /^\*\*\*\n\*\*\*[^\n]{0,4}\n[^\n]{0,3}\*\*\*[^\n]{0,4}\n[^\n]{0,4}\*\*\*[^\n]{0,4}\n\*\*\*\nplain\n$/,
    )
    expect(textOf(entries, 'stderr')).toBe('***\n')
    expect((await stat(fileURLToPath(result.logs?.uri ?? ''))).size).toBe(
      Buffer.byteLength(entries.map(({ text }) => text).join('')),
    )
  }, 60_000)

  it('is named in the log and in an event when it is too short to be masked, and leaves the log whole', async () => {
    const credentials = { username: 'u', password: { secretRef: 'env:GIT_PIN' } }
    const source = { type: 'git_remote' as const, url: world.repoUrl, credentials }
    const taskId = await enqueue('echo abcdefgh', { workspace: { source } })
    const entries = await read(taskId)
    expect(textOf(entries)).toBe('abcdefgh\n')
    expect(textOf(entries, 'stderr')).toContain(
      'the secret workspace.source.credentials is too short to be masked in this log\n',
    )
    const told: unknown[] = []
    for await (const { type, data } of world.producer.events(taskId, { follow: true }))
      if (type === 'phase.progress' && 'secretsTooShortToMask' in data) told.push(data)
    expect(told).toEqual([{ secretsTooShortToMask: ['workspace.source.credentials'] }])
  }, 60_000)
})
