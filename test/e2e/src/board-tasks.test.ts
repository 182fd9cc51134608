import { readFile } from 'node:fs/promises'
import { eventually } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Browser, Page } from 'playwright-core'
import { startBoard, type TestBoard } from './board/board.js'
import { openBrowser } from './board/browser.js'
import { BoardTasks } from './board/tasks.js'
import { enter, type Visit } from './board/visit.js'
import { createWorld, newTaskId, type World } from './support.js'

let world: World
let board: TestBoard
let browser: Browser
let visitor: Visit
let page: Page

beforeAll(async () => {
  world = await createWorld()
  await world.startWorker()
  board = await startBoard(world.redis.url, world.queue)
  browser = await openBrowser()
  visitor = await enter(browser, board)
  page = visitor.page
}, 120_000)
afterAll(async () => {
  await browser.close()
  await board.stop()
  await world.close()
})
afterEach(() => {
  expect(visitor.faults.splice(0)).toEqual([])
})

const tasks = new BoardTasks(() => world)
const { enqueue } = tasks
afterEach(async () => await tasks.end())

async function ended(script: string, more: object = {}): Promise<string> {
  const taskId = await enqueue(script, more)
  await world.producer.waitForResult(taskId)
  return taskId
}

const log = () => page.getByRole('region', { name: /^Log,/ })

describe('the live containers', () => {
  it('show a task within 2 s of its start with what it uses, and let it fade when it ends', async () => {
    await visitor.go('containers')
    await page.getByRole('heading', { name: /Live containers/ }).waitFor()
    const taskId = await enqueue('echo hello; while [ ! -e /workspace/output/go ]; do :; done', {
      tenantId: 'acme',
      labels: { role: 'developer', workflow: 'w-1' },
      environment: { resources: { cpu: 1, memory: '256m' } },
      capture: { artifacts: [] },
    })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('hello')) break
    const row = page.getByRole('row').filter({ hasText: taskId })
    await row.waitFor({ timeout: 2000 })
    await expectText(row, [
      /task/,
      /running/,
      /acme/,
      /developer/,
      /w-1/,
      /debian-base/,
      /256/,
      /none/,
      /hello/,
    ])
    // It spins: what it uses is told as it changes.
    await row.getByText(/(0\.[5-9]\d*|1(\.0\d*)?) \/ 1/).waitFor()
    await world.producer.cancel(taskId)
    const gone = page.locator('tr.gone').filter({ hasText: taskId })
    await gone.waitFor()
    await gone.waitFor({ state: 'detached', timeout: 15_000 })
  }, 60_000)

  it('are filtered and sorted', async () => {
    const ids = [
      await enqueue('sleep 600', { tenantId: 'one' }),
      await enqueue('sleep 600', { tenantId: 'two' }),
    ]
    await visitor.go('containers')
    const rows = page.locator('tbody tr:not(.gone)')
    for (const id of ids) await rows.filter({ hasText: id }).waitFor()
    await page.getByRole('button', { name: 'Tenant' }).click()
    await page.locator('th[aria-sort=ascending]', { hasText: 'Tenant' }).waitFor()
    const order = async () =>
      (await rows.allTextContents()).map(text => ids.findIndex(id => text.includes(id)))
    expect((await order()).filter(at => at >= 0)).toEqual([0, 1])
    await page.getByRole('button', { name: 'Tenant' }).click()
    expect((await order()).filter(at => at >= 0)).toEqual([1, 0])
    await page.getByLabel('Filter containers').fill(ids[1] ?? '')
    await rows.filter({ hasText: ids[0] ?? '' }).waitFor({ state: 'detached' })
    expect(await rows.count()).toBe(1)
  }, 60_000)
})

describe('the page of a task', () => {
  it('follows its log, and cancels it', async () => {
    const taskId = await enqueue('n=0; while :; do n=$((n+1)); echo "line $n"; sleep 0.2; done')
    await visitor.go(`tasks/${taskId}`)
    await log().getByText('line 3', { exact: true }).waitFor()
    await log().getByText('line 8', { exact: true }).waitFor()
    await page.getByRole('button', { name: 'Cancel', exact: true }).click()
    await page.getByLabel('Reason').fill('seen enough')
    await page.getByRole('button', { name: 'Cancel the task' }).click()
    await page.getByRole('status').getByText('canceled').waitFor()
    await page.getByRole('heading', { name: /task\.canceled/ }).waitFor()
    const result = await world.producer.result(taskId)
    expect(result).toMatchObject({
      status: 'canceled',
      failure: { message: expect.stringContaining('seen enough') },
    })
  }, 60_000)

  it('explains an end for lack of memory, and what to do about it', async () => {
    const taskId = await ended(`perl -e '$x = "x" x (300 * 2 ** 20)'`, {
      environment: { resources: { memory: '64m' } },
    })
    await visitor.go(`tasks/${taskId}`)
    const failure = page.getByRole('region', { name: /task\.out_of_memory/ })
    await failure.waitFor()
    await expectText(failure, [/task\.out_of_memory/, /What to do:.*memory/])
    await page.getByText(/killed for lack of memory/).waitFor()
  }, 60_000)

  it('shows its change as a diff, its timeline and its artifacts', async () => {
    const taskId = await ended(
      'echo "a <b>new</b> line" >> README.md; rm link; echo report > "$AGIRUNNER_OUTPUT/report.txt"',
      { workspace: { source: { type: 'git_remote', url: world.repoUrl } } },
    )
    await visitor.go(`tasks/${taskId}`)
    const change = page
      .getByRole('region', { name: 'Change of repo/README.md' })
      .or(page.getByRole('region', { name: 'Change of README.md' }))
    await change.getByText('a <b>new</b> line').waitFor()
    expect(await change.locator('b').count()).toBe(0)
    const timeline = page.getByRole('img', { name: /Timeline of phases: .*workspace .*run .*capture/ })
    await timeline.waitFor()
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('link', { name: 'output/report.txt' }).click(),
    ])
    expect(await readFile(await download.path(), 'utf8')).toBe('report\n')
    expect(download.suggestedFilename()).toBe('report.txt')
  }, 60_000)

  it('searches the log, folds its steps, and jumps to the line that failed', async () => {
    const taskId = newTaskId('board')
    await world.producer.enqueue({
      taskId,
      run: {
        steps: [
          { name: 'prepare', script: 'seq 1 500' },
          { name: 'build', script: 'seq 501 900; echo "fatal: no such thing" >&2; seq 901 1000; exit 2' },
        ],
      },
    })
    await world.producer.waitForResult(taskId)
    await visitor.go(`tasks/${taskId}`)
    await page.getByRole('button', { name: 'Jump to the failing line' }).click()
    await log().locator('.marked', { hasText: 'fatal: no such thing' }).waitFor()
    await page.getByLabel('Search the log').fill('77')
    await page
      .getByText('1 of 20')
      .or(page.getByText(/\d+ of \d+/))
      .first()
      .waitFor()
    await page.getByRole('button', { name: 'Next match' }).click()
    await page.getByRole('button', { name: 'Fold all', exact: true }).click()
    await log()
      .getByRole('button', { name: /prepare/, expanded: false })
      .waitFor()
    await log().getByRole('button', { name: /build/, expanded: false }).click()
    await log().locator('code', { hasText: /^501$/ }).waitFor()
  }, 60_000)

  it('holds 100,000 lines of which it draws those that are seen', async () => {
    const taskId = await ended('seq 1 100000')
    await visitor.go(`tasks/${taskId}`)
    await page.getByRole('region', { name: 'Log, 100,000 lines' }).waitFor({ timeout: 30_000 })
    await page.getByRole('button', { name: 'Go to the end' }).click()
    await log().locator('code', { hasText: '100000' }).waitFor()
    expect(await log().locator('.line').count()).toBeLessThan(200)
  }, 90_000)

  it('enqueues it again, and leads to its job and back', async () => {
    const taskId = await ended('echo once')
    await visitor.go(`tasks/${taskId}`)
    await page.getByRole('button', { name: 'Enqueue again' }).click()
    await page.waitForURL(url => url.pathname.includes(`${taskId}-again`))
    await page.getByRole('status').getByText('succeeded').waitFor()
    await page.getByRole('link', { name: 'Job in the queue' }).click()
    await page.getByText(`${taskId}-again`).first().waitFor()
    const [back] = await Promise.all([
      visitor.context.waitForEvent('page'),
      page.getByRole('link', { name: 'Task', exact: true }).first().click(),
    ])
    await back.getByRole('heading', { name: `${taskId}-again` }).waitFor()
    await back.close()
  }, 60_000)
})

describe('the overview', () => {
  it('shows what waits, by priority and tenant, what failed, and the workers', async () => {
    await ended('exit 3')
    const blockers = [await enqueue('sleep 600'), await enqueue('sleep 600')]
    for (const id of blockers)
      for await (const { type, phase } of world.producer.events(id, { follow: true }))
        if (type === 'phase.started' && phase === 'run') break
    const waiting = await Promise.all(
      ['low', 'low', 'critical'].map(priority => enqueue('true', { priority, tenantId: 'waits' })),
    )
    await visitor.go('')
    const queue = page.getByRole('region', { name: 'Queue depth' })
    await queue.getByText('waits').waitFor()
    await expectText(queue, [/critical\s*1/, /low\s*2/, /waits\s*3/])
    await expectText(page.getByRole('region', { name: 'The last hour' }), [/task\.exit_nonzero/])
    await expectText(page.getByRole('region', { name: 'Workers' }), [/executing/, /2 \/ 2/])
    await expectText(page.locator('.tiles'), [/Waiting\s*3/, /Running\s*2/])
    for (const id of [...waiting, ...blockers]) await world.producer.cancel(id)
    await page.locator('.tiles', { hasText: /Running\s*0/ }).waitFor()
  }, 60_000)
})

interface Readable {
  textContent(): Promise<string | null>
}

/** Waits until it has all of them. */
async function expectText(of: Readable, patterns: readonly RegExp[]): Promise<void> {
  let text = ''
  const hasAll = async () => {
    text = (await of.textContent()) ?? ''
    return patterns.every(pattern => pattern.test(text))
  }
  await eventually(hasAll, { within: 10_000 }).catch(() => undefined)
  for (const pattern of patterns) expect(text).toMatch(pattern)
}
