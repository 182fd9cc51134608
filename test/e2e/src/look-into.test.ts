import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { connectEngine, eventually, expectNoLeaks, leaks } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, type World } from './support.js'

const COMMAND = fileURLToPath(new URL('../../../packages/cli/bin/agirunner.js', import.meta.url))

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

/** Runs until somebody looks into it. */
const UNTIL_GO = 'echo started; until [ -e go ]; do sleep 0.1; done'

async function agirunner(args: readonly string[], input?: string) {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    env: {
      ...process.env,
      REDIS_URL: world.redis.url,
      AGIRUNNER_QUEUE: world.queue,
      AGIRUNNER_DATA: world.dataDir,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.end(input ?? '')
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ])
  return { code, stdout, stderr }
}

async function running(taskId: string): Promise<void> {
  for await (const entry of world.producer.logs(taskId, { follow: true }))
    if (entry.text.includes('started')) return
  throw new Error(`${taskId} ended before it started`)
}

async function stateOf(taskId: string): Promise<string | undefined> {
  const filters = { name: [`^/agirunner-${taskId}-1-kept-[0-9]+$`] }
  const [found] = await connectEngine().listContainers({ all: true, filters })
  return found?.State
}

describe('agirunner exec', () => {
  it("runs a command in a live task's container as the task's user, with its status and both streams", async () => {
    await world.startWorker()
    const taskId = newTaskId()
    await world.producer.enqueue({
      taskId,
      run: { script: 'echo 1 > made; echo started; sleep 600' },
      limits: { grace: 0 },
    })
    await running(taskId)
    const script = 'id -u; pwd; cat made; echo oops >&2; exit 7'
    expect(await agirunner(['exec', taskId, '--', 'sh', '-c', script])).toEqual({
      code: 7,
      stdout: '10001\n/workspace/repo\n1\n',
      stderr: 'oops\n',
    })
    expect(await agirunner(['exec', '--user', '0', taskId, '--', 'id', '-u'])).toMatchObject({
      stdout: '0\n',
    })
    const big = 'x'.repeat(300_000)
    expect(await agirunner(['exec', '-i', taskId, 'cat'], big)).toEqual({ code: 0, stdout: big, stderr: '' })
    // Which of the two is the engine's choice.
    expect([126, 127]).toContain((await agirunner(['exec', taskId, 'no-such-program'])).code)
    await world.producer.cancel(taskId)
    await world.producer.waitForResult(taskId)
    const late = await agirunner(['exec', taskId, 'true'])
    expect(late).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: there is no container of /),
    })
  })
})

describe('agirunner keep', () => {
  it.each(['overlay_volume', 'copy', 'archive'])(
    "keeps a failed task's container to look into, until it is told otherwise, %s",
    async strategy => {
      const worker = await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
      const taskId = newTaskId()
      const spec = {
        taskId,
        workspace: { source: { type: 'git_remote', url: world.repoUrl } },
        environment: { network: { mode: 'open' } },
        run: { script: 'echo left > left.txt; echo home > ~/h; sleep 600 & exit 3' },
      }
      const ran = await agirunner(['run', '--keep-on-failure', '10m', '-'], JSON.stringify(spec))
      expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(`\`agirunner exec ${taskId}\``) })
      await eventually(async () => (await stateOf(taskId)) === 'running')
      const look = 'cat left.txt README.md ~/h; ls /sys/class/net; ps -e -o args= | grep -c "^sleep 600"'
      expect(await agirunner(['exec', taskId, '--', 'sh', '-c', look])).toMatchObject({
        stdout: 'left\n# Demo\nhome\nlo\n0\n',
      })
      expect((await agirunner(['ps'])).stdout).toMatch(new RegExp(`^${taskId} +1 +kept +running`, 'm'))
      expect(await agirunner(['keep', taskId])).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('it has finished already'),
      })
      expect(await agirunner(['keep', '--off', taskId])).toMatchObject({
        code: 0,
        stdout: `${taskId}: its container is removed\n`,
      })
      expect(await agirunner(['keep', '--off', taskId])).toMatchObject({
        stdout: `${taskId}: nothing of it is kept on this machine\n`,
      })
      // A live worker's networks wait for the next task.
      const left = async () =>
        (await leaks({ dataDir: world.dataDir, labels: { 'agirunner.worker': worker.id } })).filter(
          line => !line.startsWith('network '),
        )
      await eventually(async () => (await left()).length === 0, { within: 30_000 })
    },
    90_000,
  )

  it('ends by itself when its time is over, also without the worker that kept it', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId()
    await world.producer.enqueue({ taskId, run: { script: UNTIL_GO } })
    await running(taskId)
    expect(await agirunner(['keep', '--for', '15s', taskId])).toMatchObject({ code: 0 })
    await agirunner(['exec', taskId, 'touch', 'go'])
    await world.producer.waitForResult(taskId)
    await eventually(async () => (await stateOf(taskId)) === 'running')
    first.kill('SIGKILL')
    await first.exited
    await world.startWorker()
    expect(await stateOf(taskId)).toBe('running')
    await expectNoLeaks({ dataDir: world.dataDir, labels: { 'agirunner.worker': first.id } })
  }, 90_000)

  it('keeps nothing of a task that succeeds when failures were asked for, nor beyond what the operator allows', async () => {
    const worker = await world.startWorker({ AGIRUNNER_MAX_KEEP: '0' })
    const [good, bad] = [newTaskId(), newTaskId()]
    for (const [taskId, code] of [
      [good, 0],
      [bad, 1],
    ] as const) {
      await world.producer.enqueue({ taskId, run: { script: `${UNTIL_GO}; exit ${code}` } })
      await running(taskId)
      await world.producer.keep(taskId, { forMs: 600_000, when: 'failure' })
      await agirunner(['exec', taskId, 'touch', 'go'])
      await world.producer.waitForResult(taskId)
    }
    await worker.stop()
    expect([await stateOf(good), await stateOf(bad)]).toEqual([undefined, undefined])
    expect(await agirunner(['keep', '--for', 'long', good])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('give it like 30m'),
    })
    expect(await agirunner(['keep', 'no-such-task'])).toMatchObject({ code: 2 })
  })
})
