import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { ask, promtool, scrape } from './observe/scrape.js'
import { createWorld, killForGood, newTaskId, untilParked, type World } from './support.js'

const FILES = fileURLToPath(new URL('../../../infra/observability/', import.meta.url))

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

async function run(task: Omit<TaskInput, 'taskId'>): Promise<TaskResult> {
  const taskId = newTaskId('metrics')
  await world.producer.enqueue({ ...task, taskId })
  return await world.producer.waitForResult(taskId)
}

describe('the metrics of a worker', () => {
  it('say what became of its tasks, in a form that Prometheus likes', async () => {
    const worker = await world.startWorker()
    const before = await scrape(worker)
    // There before anything happened: what appears with its first increase has no rate then.
    expect(before.value('agirunner_tasks_total{status="succeeded",code="none"}')).toBe(0)
    expect(before.value('agirunner_tasks_total{status="timed_out",code="task.timeout"}')).toBe(0)

    const source = { type: 'git_remote' as const, url: world.repoUrl }
    await run({ workspace: { source }, run: { script: 'printf 0123456789' } })
    await run({ run: { script: 'exit 3' } })
    await run({ run: { script: 'exit 4' } })
    await run({ run: { script: 'sleep 60' }, limits: { timeout: 1, grace: 0 } })
    await run({
      environment: { image: 'agirunner-test/not-there:1', pullPolicy: 'never' },
      run: { script: 'true' },
    })
    await run({ environment: { image: '127.0.0.1:1/nobody/there:1' }, run: { script: 'true' } })
    const taskId = newTaskId('metrics')
    await world.producer.enqueue({ taskId, run: { script: 'echo started; sleep 600' }, limits: { grace: 0 } })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('started')) break
    expect((await scrape(worker)).value('agirunner_tasks_running')).toBe(1)
    expect((await scrape(worker)).value(`agirunner_queue_jobs{queue="${world.queue}",state="active"}`)).toBe(
      1,
    )
    await world.producer.cancel(taskId)
    await world.producer.waitForResult(taskId)

    const { text, value } = await scrape(worker)
    expect(await promtool(['check', 'metrics'], text)).toBe('')
    const tasks = (status: string, code: string) =>
      value(`agirunner_tasks_total{status="${status}",code="${code}"}`)
    expect({
      succeeded: tasks('succeeded', 'none'),
      failed: tasks('failed', 'task.exit_nonzero'),
      late: tasks('timed_out', 'task.timeout'),
      notThere: tasks('failed', 'image.not_found'),
      unreachable: tasks('failed', 'image.pull_failed'),
      canceled: tasks('canceled', 'task.canceled'),
    }).toEqual({ succeeded: 1, failed: 2, late: 1, notThere: 1, unreachable: 1, canceled: 1 })
    expect(value('agirunner_log_bytes_total')).toBe(10 + 'started\n'.length)
    expect(value('agirunner_phase_duration_seconds_count{phase="run"}')).toBe(5)
    expect(value('agirunner_phase_duration_seconds_count{phase="queued"}')).toBe(7)
    expect(value('agirunner_phase_duration_seconds_sum{phase="run"}')).toBeGreaterThan(1)
    expect(value('agirunner_phase_duration_seconds_bucket{le="3600",phase="capture"}')).toBe(5)
    expect(value('agirunner_attempts_total{outcome="retried"}')).toBeGreaterThan(0)
    expect(value('agirunner_image_pulls_total{code="image.pull_failed"}')).toBeGreaterThan(0)
    // The repository, and the empty one of all others.
    expect(value('agirunner_cache_misses_total')).toBe(2)
    expect(value('agirunner_cache_hits_total')).toBeGreaterThan(0)
    expect(value('agirunner_tasks_capacity')).toBe(2)
    expect(value('agirunner_disk_free_bytes')).toBeGreaterThan(0)
    // Whatever tasks are called, they make no series.
    expect(text).not.toContain(taskId)
    await eventually(async () => (await scrape(worker)).value('agirunner_tasks_running') === 0, {
      within: 10_000,
    })
    await eventually(async () => ((await scrape(worker)).value('agirunner_cache_bytes') ?? 0) > 0, {
      within: 10_000,
    })
  }, 120_000)

  it('tell the containers that wait, by a short hash and no more', async () => {
    const worker = await world.startWorker({ AGIRUNNER_PARK: '2' })
    const first = await run({ run: { script: 'true' } })
    await untilParked(world, first)
    const [record] = await world.producer.workers()
    const key = record?.parking?.parked[0]?.shape
    expect(key).toMatch(/^[0-9a-f]{12}$/)
    const waiting = await scrape(worker)
    expect(waiting.value(`agirunner_parked_containers{key="${key}"}`)).toBe(1)
    expect(waiting.value('agirunner_parked_oldest_age_seconds')).toBeGreaterThan(0)
    expect(waiting.value('agirunner_parking_misses_total')).toBe(1)
    await run({ run: { script: 'true' } })
    expect((await scrape(worker)).value('agirunner_parking_hits_total')).toBe(1)
    expect(await promtool(['check', 'metrics'], waiting.text)).toBe('')
  })

  it('count renewals of leases, and what dead workers left', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId('metrics')
    await world.producer.enqueue({ taskId, run: { script: 'echo started; sleep 600' } })
    const renewed = async () =>
      ((await scrape(first)).value('agirunner_lease_renewals_total{outcome="kept"}') ?? 0) > 0
    await eventually(renewed, { within: 15_000 })
    await killForGood(first, world.dataDir)
    const second = await world.startWorker()
    const lost = await world.producer.waitForResult(taskId)
    expect(lost.failure?.code).toBe('worker.lost')
    const reaped = async () => ((await scrape(second)).value('agirunner_leaks_reaped_total') ?? 0) > 0
    await eventually(reaped, { within: 30_000 })
    const code = 'worker.lost'
    expect((await scrape(second)).value(`agirunner_tasks_total{status="failed",code="${code}"}`)).toBe(1)
  }, 120_000)
})

describe('the files for Prometheus and Grafana', () => {
  it('are valid, every alert fires when it should, and all that they name is there', async () => {
    await promtool(['check', 'config', join(FILES, 'prometheus.yml')])
    expect(await promtool(['check', 'rules', join(FILES, 'alerts.yml')])).toContain('SUCCESS')
    expect(await promtool(['test', 'rules', join(FILES, 'alerts.test.yml')])).toContain('SUCCESS')
    const read = (name: string) => readFileSync(join(FILES, name), 'utf8')
    const dashboard = JSON.parse(read('grafana-dashboard.json')) as {
      panels: { targets: { expr: string }[] }[]
    }
    const asked = [
      ...dashboard.panels.flatMap(panel => panel.targets.map(({ expr }) => expr)),
      ...read('alerts.yml')
        .split('\n')
        .filter(line => !/^\s*(#|summary|action|- alert|- name)/.test(line)),
    ].join('\n')
    const { names } = await scrape(await world.startWorker())
    const named = new Set(
      [...asked.matchAll(/agirunner_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, '')),
    )
    expect([...named].filter(name => !names.has(name))).toEqual([])
    // And nobody looks at what nobody shows: every metric is documented and on the dashboard.
    const shown = [...names].filter(name => !named.has(name))
    expect(shown).toEqual(['agirunner_process_start_time_seconds'])
    const documented = [...names].filter(
      name => !read('README.md').includes(`\`${name.replace('agirunner_', '')}\``),
    )
    expect(documented).toEqual([])
  })
})

describe('where a worker answers', () => {
  it('is its own, with many workers on one machine', async () => {
    const workers = await Promise.all([world.startWorker(), world.startWorker()])
    expect(new Set(workers.map(worker => worker.http)).size).toBe(2)
    for (const worker of workers) {
      expect(worker.http).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
      expect(await ask(worker, '/healthz')).toMatchObject({ status: 200, body: '{"status":"ok"}\n' })
    }
    const told = (await world.producer.workers()).map(({ http }) => http)
    expect(new Set(told)).toEqual(new Set(workers.map(worker => worker.http)))
    expect((await ask(workers[0], '/metrics')).type).toMatch(/^text\/plain; version=0\.0\.4/)
    expect((await ask(workers[0], '/nothing')).status).toBe(404)
    const posted = await fetch(`${workers[0].http}/metrics`, { method: 'POST', body: 'x' })
    expect(posted.status).toBe(405)
  })

  it('is taken when it is free, and tasks run until then', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    const worker = await world.startWorker({ AGIRUNNER_HTTP: `127.0.0.1:${port}` })
    expect(worker.http).toBeNull()
    expect(worker.log()).toContain('EADDRINUSE')
    expect((await run({ run: { script: 'true' } })).status).toBe('succeeded')
    holder.close()
    const there = async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).status === 200
    await eventually(async () => await there().catch(() => false), { within: 15_000 })
  })

  it('is nowhere when the operator says so', async () => {
    const worker = await world.startWorker({ AGIRUNNER_HTTP: 'off' })
    expect(worker.http).toBeNull()
    expect((await run({ run: { script: 'true' } })).status).toBe('succeeded')
    expect((await world.producer.workers())[0]).not.toHaveProperty('http')
  })
})
