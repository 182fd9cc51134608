import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskResult } from '@agirunner/contracts'
import { git } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, type World } from './support.js'

const PASSWORD = 'git-password-0123456789'
let world: World
let scratch: string
beforeEach(async () => {
  world = await createWorld()
  scratch = mkdtempSync(join(tmpdir(), 'agirunner-delivery-'))
})
afterEach(async () => {
  await world.close()
  rmSync(scratch, { recursive: true, force: true })
})

/** What a task leaves; in the second it commits, and goes to where no branch is. */
const WORK = [
  "echo more >>src/lib.txt; mv old new; ln -sf nowhere link; chmod +x README.md; printf 'a\\0b' >n.bin; echo 1 >'ö'",
  'git checkout -q --detach; git rm -q bin/blob.bin; git commit -qm one; echo 1 >a; git add a; git commit -qm two; rm a; mkdir a; echo f >a/f',
]

interface Ending {
  readonly script: string
  readonly status: TaskResult['status']
  readonly more?: Record<string, unknown>
  readonly cancel?: boolean
}
const OUT_OF_MEMORY = `exec perl -e '$x = "x" x 2**28; $y = $x x 8'`
const ENDINGS: Readonly<Record<string, Ending>> = {
  success: { script: 'exit 0', status: 'succeeded' },
  failure: { script: 'exit 3', status: 'failed' },
  timeout: { script: 'sleep 600', status: 'timed_out', more: { limits: { timeout: 3, grace: 0 } } },
  cancel: { script: 'echo started; sleep 600', status: 'canceled', cancel: true },
  'out of memory': {
    script: OUT_OF_MEMORY,
    status: 'failed',
    more: { environment: { resources: { memory: '64m' } } },
  },
}

async function run(work: string, { script, more = {}, cancel = false }: Ending, commits: string) {
  const taskId = newTaskId()
  await world.producer.enqueue({
    taskId,
    workspace: {
      source: {
        url: world.repoUrl,
        ref: 'main',
        credentials: { password: { secretRef: 'env:GIT_PASSWORD' } },
      },
    },
    run: { script: `${work}\n${script}` },
    capture: { changes: 'commit', push: { branch: `agent/${taskId}`, commits } },
    ...more,
  })
  if (cancel) {
    for await (const entry of world.producer.logs(taskId, { follow: true })) {
      if (!entry.text.includes('started')) continue
      await world.producer.cancel(taskId, 'enough')
      break
    }
  }
  return await world.producer.waitForResult(taskId)
}

/** Whether patch, bundle and branch all are the tree that the result says. */
async function expectDelivered(result: TaskResult, at: string): Promise<void> {
  const { changes, base, status, taskId } = result
  const [head, tree] = [base?.commit ?? '', changes?.tree]
  const clone = join(scratch, at)
  await git(['clone', '-q', world.repoUrl, clone])
  await git(['apply', '--index', '--binary', fileURLToPath(changes?.patch?.uri ?? '')], { cwd: clone })
  expect(await git(['write-tree'], { cwd: clone })).toBe(tree)
  const bundle = fileURLToPath(changes?.bundle?.uri ?? '')
  await git(['bundle', 'verify', bundle], { cwd: clone })
  await git(['fetch', '-q', bundle, 'HEAD'], { cwd: clone })
  expect(await git(['rev-parse', 'FETCH_HEAD', 'FETCH_HEAD^{tree}', 'FETCH_HEAD^'], { cwd: clone })).toBe(
    [changes?.commit, tree, head].join('\n'),
  )
  await git(['fsck', '--strict', '--no-dangling'], { cwd: clone })
  const branch = `agent/${taskId}`
  const heads = await world.repository.git([
    'for-each-ref',
    '--format=%(objectname) %(tree)',
    `refs/heads/${branch}`,
  ])
  if (status !== 'succeeded') {
    expect(heads).toBe('')
    expect(changes?.pushed).toBeNull()
    expect(changes?.notes.join()).toContain('did not succeed')
  } else {
    expect(changes?.pushed).toEqual({ branch, sha: expect.any(String) })
    expect(heads).toBe(`${changes?.pushed?.sha} ${tree}`)
  }
}

describe.each(['overlay_volume', 'copy', 'archive'])('what a task leaves comes whole, %s', strategy => {
  it('however it ends', async () => {
    await world.startWorker({
      AGIRUNNER_STRATEGY: strategy,
      AGIRUNNER_SECRET_ENV: 'GIT_PASSWORD',
      GIT_PASSWORD: PASSWORD,
      AGIRUNNER_CONCURRENCY: '4',
    })
    const all = Object.entries(ENDINGS).flatMap(([name, ending]) =>
      WORK.map((work, index) => ({
        name: `${name} ${index}`,
        ending,
        work,
        commits: index ? 'keep' : 'squash',
      })),
    )
    const results = await Promise.all(all.map(({ work, ending, commits }) => run(work, ending, commits)))
    for (const [index, { name, ending, commits }] of all.entries()) {
      const result = results[index] as TaskResult
      expect([name, result.status, result.failure?.message]).toEqual([
        name,
        ending.status,
        ending.status === 'succeeded' ? undefined : expect.any(String),
      ])
      await expectDelivered(result, name.replaceAll(' ', '-'))
      if (ending.status === 'succeeded' && commits === 'keep')
        expect(
          await world.repository.git([
            'log',
            '--format=%s',
            `${result.base?.commit}..${result.changes?.pushed?.sha}`,
          ]),
        ).toBe(`Changes of task ${result.taskId}\ntwo\none`)
      if (name.startsWith('out of memory')) expect(result.failure?.code).toBe('task.out_of_memory')
    }
  })
})

describe('a push that fails', () => {
  it('fails the task with what the server says; its patch and its bundle are there', async () => {
    await world.startWorker({ AGIRUNNER_SECRET_ENV: 'GIT_PASSWORD', GIT_PASSWORD: PASSWORD })
    await world.repository.git(['branch', 'agent', 'main'])
    const result = await run(WORK[0] ?? '', { script: 'exit 0', status: 'failed' }, 'squash')
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'push.rejected', origin: 'platform', retryable: false, phase: 'capture' },
      exit: { code: 0 },
      changes: { pushed: null, commit: expect.any(String), patch: { sizeBytes: expect.any(Number) } },
    })
  })
})
