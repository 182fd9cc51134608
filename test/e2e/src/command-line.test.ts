import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  createRepository,
  eventually,
  expectNoLeaks,
  type GitServer,
  git,
  serveGit,
} from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { newTaskId } from './support.js'

const COMMAND = fileURLToPath(new URL('../../../packages/cli/bin/agirunner.js', import.meta.url))

interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Running {
  readonly process: ChildProcess
  readonly finished: Promise<Finished>
  output(): string
}

let root: string
let dataDir: string
let server: GitServer
let up: Running

/** Starts the real command; it finds Redis by the `up.json` that `agirunner up` wrote. */
function start(args: readonly string[], input?: string): Running {
  const { REDIS_URL: _shared, ...inherited } = process.env
  const env = {
    ...inherited,
    AGIRUNNER_DATA: dataDir,
    AGIRUNNER_GIT_ALLOW_PRIVATE: 'yes',
    AGIRUNNER_NO_INSTALL: 'yes',
  }
  const child = spawn(process.execPath, [COMMAND, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  child.stdin.end(input ?? '')
  const finished = once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }))
  return { process: child, finished, output: () => stdout + stderr }
}

const agirunner = async (args: readonly string[], input?: string) => await start(args, input).finished
const task = (more: object) => JSON.stringify({ taskId: newTaskId('cli'), ...more })

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'agirunner-cli-'))
  dataDir = join(root, 'data')
  await createRepository({ root, name: 'demo.git', files: { 'a.txt': 'a\n' } })
  server = await serveGit({ root })
  up = start(['up', '--port', '0', '--concurrency', '2'])
  await eventually(() => /^ready/m.test(up.output()), {
    within: 60_000,
    what: 'agirunner up to be ready',
  }).catch(error => {
    throw new Error(`${String(error)}\n${up.output()}`)
  })
}, 90_000)

afterAll(async () => {
  up.process.kill('SIGTERM')
  expect(await up.finished).toMatchObject({ code: 0 })
  // Other tests use the engine at the same time.
  const worker = /^ready .*worker=(\S+)/m.exec(up.output())?.[1] ?? ''
  expect(worker).toMatch(/^w-/)
  await expectNoLeaks({ dataDir, labels: { 'agirunner.worker': worker } })
  await server.close()
  rmSync(root, { recursive: true, force: true })
}, 60_000)

describe('agirunner run', () => {
  it('0: passes the log on as it is, and with --json the result alone', async () => {
    const script = 'echo out; echo err >&2; echo x >> a.txt; echo \'{"ok":true}\' > ../output/result.json'
    const repo = { workspace: { source: { url: `${server.url}/demo.git` } } }
    const plain = await agirunner(['run', '-'], task({ ...repo, run: { script } }))
    expect(plain).toMatchObject({ code: 0, stdout: 'out\n' })
    expect(plain.stderr).toMatch(/^err$/m)
    const json = await agirunner(['run', '-', '--json'], task({ ...repo, run: { script } }))
    expect(json.code).toBe(0)
    const result = JSON.parse(json.stdout) as {
      taskId: string
      status: string
      output: unknown
      base: { commit: string }
    }
    expect(result).toMatchObject({ status: 'succeeded', output: { ok: true } })

    const patch = await agirunner(['patch', result.taskId])
    const clone = join(root, 'clone')
    await git(['clone', '-q', `${server.url}/demo.git`, clone])
    writeFileSync(join(root, 'p.patch'), patch.stdout)
    await git(['apply', '--index', '--binary', join(root, 'p.patch')], { cwd: clone })
    expect(readFileSync(join(clone, 'a.txt'), 'utf8')).toBe('a\nx\n')
    expect(await agirunner(['logs', result.taskId])).toMatchObject({
      code: 0,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    expect((await agirunner(['result', result.taskId, '--json'])).code).toBe(0)
    expect((await agirunner(['events', result.taskId, '--json'])).stdout).toContain('"task.finished"')
  })

  it.each([
    [1, 'a non-zero exit', { run: { script: 'exit 9' } }, /task\.exit_nonzero/],
    [
      1,
      'out of memory',
      { environment: { resources: { memory: '32m' } }, run: { command: ['perl', '-e', '$x="x" x 2e8'] } },
      /task\.out_of_memory/,
    ],
    [
      2,
      'an unknown ref',
      { workspace: { source: { url: '{{server}}/demo.git', ref: 'nope' } }, run: { script: 'true' } },
      /ref_not_found/,
    ],
    [
      2,
      'an unknown image',
      { environment: { image: 'no/such:1', pullPolicy: 'never' }, run: { script: 'true' } },
      /image\.not_found/,
    ],
    [4, 'a timeout', { run: { script: 'sleep 60' }, limits: { timeout: 1 } }, /task\.timeout/],
    [
      5,
      'an unknown host',
      { workspace: { source: { url: 'https://no-such-host.invalid/x' } }, run: { script: 'true' } },
      /remote_unreachable/,
    ],
  ])('%d: %s, with what to do about it', async (code, _what, spec, message) => {
    const text = task(spec).replace('{{server}}', server.url)
    const finished = await agirunner(['run', '-'], text)
    expect(finished).toMatchObject({ code, stderr: expect.stringMatching(message) })
    expect(finished.stderr).toMatch(/error: .+; .+/)
  })

  it('2: an invalid task, with every problem, before it reaches the queue', async () => {
    const finished = await agirunner(['run', '-'], '{"taskId":"1x","runn":{}}')
    expect(finished).toMatchObject({ code: 2, stdout: '' })
    for (const text of ['taskId', 'runn', 'did you mean "run"']) expect(finished.stderr).toContain(text)
  })

  it('2: a conflict, an unknown id, a wrong call', async () => {
    const spec = { taskId: newTaskId('cli'), run: { script: 'true' } }
    expect((await agirunner(['run', '-'], JSON.stringify(spec))).code).toBe(0)
    expect((await agirunner(['run', '-'], JSON.stringify(spec))).code).toBe(0)
    expect(await agirunner(['run', '-'], JSON.stringify({ ...spec, labels: { a: 'b' } }))).toMatchObject({
      code: 2,
    })
    expect(await agirunner(['result', 'no-such-task'])).toMatchObject({ code: 2 })
    expect(await agirunner(['rnu'])).toMatchObject({ code: 2, stderr: expect.stringContaining('run') })
  })

  it('3: Ctrl-C asks to cancel, and the task ends with its grace', async () => {
    const running = start(
      ['run', '-'],
      task({ run: { script: `trap 'echo Caught SIGTERM; exit 0' TERM; echo started; sleep 600` } }),
    )
    await eventually(() => running.output().includes('started'), { within: 20_000 })
    running.process.kill('SIGINT')
    expect(await running.finished).toMatchObject({ code: 3, stdout: 'started\nCaught SIGTERM\n' })
  })

  it('6: a result that is not there yet; cancel by id', async () => {
    const taskId = newTaskId('cli')
    expect(
      (await agirunner(['enqueue', '-'], JSON.stringify({ taskId, run: { script: 'echo on; sleep 600' } })))
        .code,
    ).toBe(0)
    expect(await agirunner(['result', taskId])).toMatchObject({ code: 6 })
    await eventually(async () => (await agirunner(['logs', taskId])).stdout === 'on\n', { within: 20_000 })
    expect((await agirunner(['ps'])).stdout).toContain(taskId)
    expect((await agirunner(['cancel', taskId, '--reason', 'enough'])).code).toBe(0)
    await eventually(async () => (await agirunner(['result', taskId])).code === 3, { within: 20_000 })
  })
})

describe('agirunner up', () => {
  it('keeps its addresses to its owner', () => {
    expect(statSync(join(dataDir, 'up.json')).mode & 0o777).toBe(0o600)
  })

  const UNTIL_GO = 'while [ ! -e "$AGIRUNNER_OUTPUT/go" ]; do sleep 0.1; done'

  it('starts a worker again that was killed, and its task goes on', async () => {
    const taskId = newTaskId('cli')
    const running = start(
      ['run', '-', '--json'],
      JSON.stringify({ taskId, run: { script: `echo started; ${UNTIL_GO}; echo over` } }),
    )
    await eventually(() => running.output().includes('started'), { within: 20_000 })
    const { worker } = JSON.parse(readFileSync(join(dataDir, 'up.json'), 'utf8')) as {
      worker: { pid: number; id: string }
    }
    process.kill(worker.pid, 'SIGKILL')
    await agirunner(['exec', taskId, '--', 'touch', '/workspace/output/go'])
    const finished = await running.finished
    expect(finished.code).toBe(0)
    expect(JSON.parse(finished.stdout)).toMatchObject({ status: 'succeeded', attempts: [{ attempt: 1 }] })
    expect(finished.stderr).toContain('over')
    await expectNoLeaks({ labels: { 'agirunner.worker': worker.id }, within: 30_000 })
  }, 120_000)

  it('shows the board only to who has the password', async () => {
    const { board } = JSON.parse(readFileSync(join(dataDir, 'up.json'), 'utf8')) as {
      board: { url: string; user: string; password: string }
    }
    const authorization = `Basic ${Buffer.from(`${board.user}:${board.password}`).toString('base64')}`
    expect((await fetch(board.url)).status).toBe(401)
    expect((await fetch(new URL('queues/', board.url), { headers: { authorization } })).status).toBe(200)
  })

  it('is looked at by doctor and described by schema', async () => {
    expect(await agirunner(['doctor'])).toMatchObject({ code: 0 })
    expect(JSON.parse((await agirunner(['schema', 'task'])).stdout)).toMatchObject({ type: 'object' })
  })
})
