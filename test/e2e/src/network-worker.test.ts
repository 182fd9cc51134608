import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { eventually, expectNoLeaks, startWorker } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

const run = promisify(execFile)
const ALLOWLIST = { mode: 'allowlist', hosts: ['good.example'] } as const

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

const rulesOf = async (worker: string) =>
  (await run('iptables', ['-w', '10', '-S'])).stdout.split('\n').filter(line => line.includes(worker))

describe('a worker that is killed', () => {
  it('takes the way out with it and leaves no freedom, until another clears away what it left', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId('k')
    const script = 'echo "$http_proxy"; sleep 120'
    await world.producer.enqueue({ taskId, environment: { network: ALLOWLIST }, run: { script } })
    let proxy = ''
    for await (const entry of world.producer.logs(taskId, { follow: true })) {
      proxy += entry.text
      if (proxy.endsWith('\n')) break
    }
    const name = `agirunner-${taskId}-1`
    const pid = (await run('docker', ['inspect', '--format', '{{.State.Pid}}', name])).stdout.trim()
    const inside = async (...args: string[]) => {
      const command = ['-t', pid, '-n', 'curl', '-sS', '-m', '3', ...args]
      return await run('nsenter', command).then(
        ({ stdout }) => stdout,
        error => String(error.stderr),
      )
    }
    const throughProxy = () => inside('-x', proxy.trim(), 'http://evil.example/')
    expect(await throughProxy()).toContain('not allowed for this task')
    expect(await rulesOf(first.id)).not.toEqual([])

    await killForGood(first, world.dataDir)
    // Any worker of this machine clears away what a dead one left, those of other tests too: then nobody is there to try.
    const refused = /connect|cannot open/i
    await eventually(async () => refused.test(await throughProxy()))
    // The git server stands for whatever listens on this machine.
    const gateway = new URL(proxy.trim()).hostname
    const address = `http://${gateway}:${new URL(world.server.url).port}/`
    expect(await inside('--noproxy', '*', address)).toMatch(refused)

    const second = await world.startWorker()
    await world.producer.waitForResult(taskId)
    await expectNoLeaks({ labels: { 'agirunner.worker': first.id } })
    await eventually(async () => (await rulesOf(first.id)).length === 0, { within: 30_000 })
    await second.stop()
    expect(await rulesOf(second.id)).toEqual([])
  })
})

describe('a worker that may not change rules', () => {
  it('refuses what it can’t enforce, says so, and runs the rest', async () => {
    const by = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', '--']
    const worker = await world.startWorker({}, by)
    expect(worker.log()).toMatch(/network allowlist[^\n]*missing|missing[^\n]*network allowlist/)
    for (const network of [ALLOWLIST, { mode: 'open' } as const]) {
      const taskId = newTaskId('r')
      await world.producer.enqueue({ taskId, environment: { network }, run: { script: 'true' } })
      const { failure, container } = await world.producer.waitForResult(taskId)
      expect(failure).toMatchObject({ code: 'environment.unsupported', origin: 'operator' })
      expect(failure?.message).toContain(`network mode "${network.mode}"`)
      expect(container).toBeNull()
    }
    const taskId = newTaskId('n')
    await world.producer.enqueue({ taskId, run: { script: 'echo fine' } })
    expect((await world.producer.waitForResult(taskId)).status).toBe('succeeded')
    expect((await readLogs(world.producer, taskId)).stdout).toBe('fine\n')
  })
})

describe('an operator', () => {
  it('forbids modes', async () => {
    await world.startWorker({ AGIRUNNER_NETWORKS: 'allowlist' })
    const taskId = newTaskId('f')
    await world.producer.enqueue({ taskId, run: { script: 'true' } })
    expect((await world.producer.waitForResult(taskId)).failure).toMatchObject({
      code: 'spec.forbidden',
      message: expect.stringContaining('"none" is switched off'),
    })
  })

  it.each([
    ['AGIRUNNER_NETWORKS', 'allowlst'],
    ['AGIRUNNER_EGRESS_PRIVATE', 'intranet.example'],
  ])('is told of a wrong %s', async (name, value) => {
    const { redis, queue, dataDir } = world
    await expect(
      startWorker({ redisUrl: redis.url, queue, dataDir, env: { [name]: value } }),
    ).rejects.toThrow(name)
  })
})
