/**
 * Makes the pictures of `apps/board/docs`: each page, wide and narrow, light and dark, with a worker that works.
 * `node test/e2e/dist/board/screenshots.js` needs an engine, a Redis program and a browser, as the tests do.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser } from 'playwright-core'
import { createWorld, type World } from '../support.js'
import { startBoard, type TestBoard } from './board.js'
import { openBrowser } from './browser.js'
import { enter, visit } from './visit.js'

const DOCS = fileURLToPath(new URL('../../../../apps/board/docs/', import.meta.url))
const SIZES = { wide: { width: 1440, height: 900 }, narrow: { width: 390, height: 844 } } as const

const FAILING = {
  tenantId: 'acme',
  labels: { workflow: 'checkout', role: 'developer', stage: 'build', playbook: 'sdlc' },
  run: {
    steps: [
      {
        name: 'install',
        script: 'for n in 1 2 3 4 5 6 7 8; do echo "added package $n of 8"; sleep 0.1; done',
      },
      {
        name: 'test',
        script: [
          `printf '\\033[1mRunning 4 tests\\033[0m\\n'`,
          `printf '\\033[32m  ok\\033[0m adds an item\\n\\033[32m  ok\\033[0m removes an item\\n'; sleep 0.4`,
          `printf '\\033[31m  not ok\\033[0m totals a cart\\n' >&2`,
          `echo '    AssertionError: expected 41 to equal 42' >&2`,
          `printf 'total = price * count\\n' >> src/lib.txt; echo '# Notes' > NOTES.md`,
          `echo '<report/>' > "$AGIRUNNER_OUTPUT/report.xml"; exit 1`,
        ].join('\n'),
      },
    ],
  },
}
const BUSY =
  'n=0; while :; do n=$((n+1)); echo "[$n] compiling module $n"; i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 0.4; done'

async function main(): Promise<void> {
  mkdirSync(DOCS, { recursive: true })
  const world = await createWorld()
  const browser = await openBrowser()
  try {
    await world.startWorker({ AGIRUNNER_CONCURRENCY: '3', AGIRUNNER_PARK: '2' })
    const board = await startBoard(world.redis.url, world.queue)
    await fill(world)
    for (const colorScheme of ['light', 'dark'] as const) await shoot(browser, board, world, colorScheme)
    for (const { taskId } of RUNNING) await world.producer.cancel(taskId)
    await board.stop()
  } finally {
    await browser.close()
    await world.close()
  }
}

const RUNNING = ['api', 'web', 'worker'].map((name, index) => ({
  taskId: `build-${name}`,
  tenantId: index === 0 ? 'globex' : 'acme',
  labels: { workflow: name, role: index === 1 ? 'reviewer' : 'developer', stage: 'build' },
  environment: { resources: { cpu: index === 0 ? 1 : 0.5, memory: '512m' } },
  run: { script: BUSY },
}))

async function fill({ producer, repoUrl }: World): Promise<void> {
  const source = { type: 'git_remote', url: repoUrl, ref: 'main' } as const
  await producer.enqueue({ taskId: 'test-cart', workspace: { source }, ...FAILING })
  const quick = ['lint', 'docs', 'types'].map(name => ({
    taskId: `check-${name}`,
    run: { script: 'echo fine' },
  }))
  await producer.enqueueMany([
    ...quick,
    {
      taskId: 'train-model',
      environment: { resources: { memory: '64m' } },
      run: { script: `perl -e '$x = "x" x 2**28'` },
    },
    { taskId: 'slow-import', limits: { timeout: 1, grace: 0 }, run: { script: 'sleep 60' } },
  ])
  for (const taskId of ['test-cart', 'train-model', 'slow-import', ...quick.map(one => one.taskId)])
    await producer.waitForResult(taskId)
  await producer.enqueueMany(RUNNING)
  for (const { taskId } of RUNNING)
    for await (const { text } of producer.logs(taskId, { follow: true })) if (text.includes('[9]')) break
  await producer.enqueueMany(
    (['low', 'normal', 'normal', 'high'] as const).map((priority, index) => ({
      taskId: `nightly-${index + 1}`,
      tenantId: index % 2 === 0 ? 'acme' : 'globex',
      priority,
      limits: { queue: 600 },
      run: { script: 'true' },
    })),
  )
}

async function shoot(
  browser: Browser,
  board: TestBoard,
  { queue }: World,
  colorScheme: 'light' | 'dark',
): Promise<void> {
  const pages: Readonly<Record<string, { path: string; ready: string | RegExp }>> = {
    overview: { path: '', ready: /nightly-4/ },
    containers: { path: 'containers', ready: /compiling module/ },
    tasks: { path: 'tasks', ready: /test-cart/ },
    task: { path: 'tasks/test-cart', ready: /NOTES\.md/ },
    queues: { path: `queues/queue/${queue}`, ready: /build-api/ },
  }
  for (const [size, viewport] of Object.entries(SIZES)) {
    const save = async (page: Awaited<ReturnType<typeof enter>>['page'], name: string) => {
      await page.screenshot({
        path: join(DOCS, `${name}-${size}-${colorScheme}.png`),
        animations: 'disabled',
      })
    }
    const stranger = await visit(browser, board, { colorScheme, viewport })
    await stranger.go('')
    await stranger.page.getByLabel('Password').waitFor()
    await save(stranger.page, 'login')
    await stranger.context.close()
    const { page, go, context } = await enter(browser, board, { colorScheme, viewport })
    for (const [name, { path, ready }] of Object.entries(pages)) {
      await go(path)
      await page.getByText(ready).first().waitFor()
      // A sparkline is a line once there are some samples.
      if (name === 'containers') await page.waitForTimeout(12_000)
      await save(page, name)
    }
    await context.close()
  }
}

await main()
