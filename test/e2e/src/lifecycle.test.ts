import { mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { REDIS_PREFIX, type TaskResult } from '@agirunner/contracts'
import { eventually, expectNoLeaks, git } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { Queue } from 'bullmq'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

/** Waits until the task has printed `text`. */
async function printed(taskId: string, text: string): Promise<void> {
  let seen = ''
  for await (const entry of world.producer.logs(taskId, { follow: true })) {
    seen += entry.text
    if (seen.includes(text)) return
  }
  throw new Error(`${taskId} ended without printing ${text}; it printed ${seen}`)
}

describe('the change', () => {
  it('applied to a clean clone is exactly what the task left', async () => {
    await world.startWorker()
    const taskId = newTaskId()
    const script = [
      'set -e',
      'echo four >> src/lib.txt',
      'git commit -qam "Add a line"',
      'git mv old renamed',
      'rm README.md && ln -s src/main.sh README.md',
      'chmod 644 src/main.sh',
      'printf "\\000\\001\\377new" > bin/blob.bin',
      'head -c 5000 /dev/urandom > bin/random.bin',
      'printf "no newline at the end" > tail.txt',
      'printf "caf\\351\\n" > "latin name \\303\\251.txt"',
      'mkdir -p deep/er && echo x > deep/er/x.txt && : > empty',
      'rm link && mkdir link && echo y > link/y',
      'echo "*.log" > .gitignore && echo ignored > a.log',
      'cp -a . /tmp/copy && cd /tmp/copy && git add -A && tree=$(git write-tree)',
      'echo "{\\"tree\\":\\"$tree\\"}" > "$AGIRUNNER_OUTPUT/result.json"',
    ].join('\n')
    await world.producer.enqueue({
      taskId,
      workspace: { source: { type: 'git_remote', url: world.repoUrl } },
      run: { script },
    })
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({ status: 'succeeded', output: { tree: result.changes?.tree } })
    expect(result.changes?.commits).toMatchObject([
      { message: expect.stringContaining('Add a line'), author: { name: 'Agent' } },
    ])
    expect(result.changes?.files.map(file => `${file.status} ${file.path}`)).toEqual(
      expect.arrayContaining([
        'renamed repo/renamed/a.txt',
        'modified repo/src/lib.txt',
        'added repo/tail.txt',
      ]),
    )

    const clone = `${world.dataDir}-clone`
    await git(['clone', '-q', world.repoUrl, clone])
    await git(['checkout', '-q', result.base?.commit ?? ''], { cwd: clone })
    await git(['apply', '--index', '--binary', fileURLToPath(result.changes?.patch?.uri ?? '')], {
      cwd: clone,
    })
    expect((await git(['write-tree'], { cwd: clone })).trim()).toBe(result.changes?.tree)
    const chunks: Buffer[] = []
    for await (const chunk of world.producer.patch(taskId)) chunks.push(chunk)
    expect(Buffer.concat(chunks)).toEqual(readFileSync(fileURLToPath(result.changes?.patch?.uri ?? '')))
  })
})

describe('a job in BullMQ', () => {
  it('shows failed for a failed task and completed for a succeeded one', async () => {
    await world.startWorker()
    const good = newTaskId()
    const bad = newTaskId()
    await world.producer.enqueueMany([
      { taskId: good, run: { script: 'true' } },
      { taskId: bad, run: { script: 'exit 1' } },
    ])
    const results = await Promise.all([world.producer.waitForResult(good), world.producer.waitForResult(bad)])
    expect(results.map(result => result.status)).toEqual(['succeeded', 'failed'])
    const queue = new Queue(world.queue, { connection: { url: world.redis.url }, prefix: REDIS_PREFIX })
    try {
      await eventually(async () => (await (await queue.getJob(good))?.getState()) === 'completed', {
        within: 5000,
      })
      await eventually(async () => (await (await queue.getJob(bad))?.getState()) === 'failed', {
        within: 5000,
      })
      expect((await queue.getJob(bad))?.failedReason).toContain('task.exit_nonzero')
    } finally {
      await queue.close()
    }
  })
})

describe('cancel', () => {
  it('of a running task ends it with its grace, and its change is captured', async () => {
    await world.startWorker()
    const taskId = newTaskId()
    const script = `trap 'echo Caught SIGTERM; exit 0' TERM; echo x > new.txt; echo started; sleep 600`
    await world.producer.enqueue({ taskId, run: { script } })
    await printed(taskId, 'started')
    expect(await world.producer.cancel(taskId, 'changed my mind')).toBe('requested')
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({
      status: 'canceled',
      failure: { code: 'task.canceled' },
      exit: { cause: 'canceled', signal: 'SIGTERM' },
      changes: { files: [{ path: 'repo/new.txt', status: 'added' }] },
    })
    expect((await readLogs(world.producer, taskId)).stdout).toContain('Caught SIGTERM')
    expect(await world.producer.cancel(taskId)).toBe('finished')
  })

  it('of a waiting task is told at once, though every slot is taken', async () => {
    await world.startWorker({ AGIRUNNER_CONCURRENCY: '1' })
    const [running, waiting] = [newTaskId(), newTaskId()]
    await world.producer.enqueue({ taskId: running, run: { script: 'echo started; sleep 600' } })
    await printed(running, 'started')
    await world.producer.enqueue({ taskId: waiting, run: { script: 'echo never' } })
    await world.producer.cancel(waiting, 'not needed')
    expect(await world.producer.waitForResult(waiting)).toMatchObject({
      status: 'canceled',
      failure: { code: 'task.canceled', phase: 'queued', message: expect.stringContaining('not needed') },
      attempts: [],
      container: null,
    })
    await world.producer.cancel(running)
    expect(await world.producer.waitForResult(running)).toMatchObject({ status: 'canceled' })
  })
})

describe('a worker that is killed with -9, with nobody to go on', () => {
  it.each(['overlay_volume', 'archive'])(
    'leaves a task that fails with worker.lost when it had run, told by another worker, and nothing else, %s',
    async strategy => {
      const first = await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
      const taskId = newTaskId()
      await world.producer.enqueue({ taskId, run: { script: 'echo started; sleep 600' } })
      await printed(taskId, 'started')
      await killForGood(first, world.dataDir)
      await world.startWorker()
      const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
      expect(result).toMatchObject({
        status: 'failed',
        failure: { code: 'worker.lost', origin: 'infrastructure' },
        attempts: [{ worker: first.id, failure: { code: 'worker.lost' } }, {}],
      })
      await expectNoLeaks({
        dataDir: world.dataDir,
        labels: { 'agirunner.worker': first.id },
        within: 30_000,
      })
    },
    120_000,
  )

  it('leaves a task that another finishes when it may run twice', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId()
    const script = 'echo "attempt $AGIRUNNER_ATTEMPT"; [ "$AGIRUNNER_ATTEMPT" != 1 ] || sleep 600'
    await world.producer.enqueue({
      taskId,
      run: { script },
      retry: { maxAttempts: 2, backoff: { delay: 0 } },
    })
    await printed(taskId, 'attempt 1')
    await killForGood(first, world.dataDir)
    const second = await world.startWorker()
    const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
    expect(result).toMatchObject({
      status: 'succeeded',
      attempts: [
        { attempt: 1, worker: first.id, failure: { code: 'worker.lost' } },
        { attempt: 2, worker: second.id, failure: null },
      ],
    })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('attempt 1\nattempt 2\n')
  }, 120_000)
})

describe('a worker that shares no files with its engine', () => {
  it('finds that out by itself, and runs tasks', async () => {
    // Its data folder is a file system that only it sees; the engine sees an empty folder in its place.
    mkdirSync(world.dataDir)
    const apart = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs tmpfs "$0" && exec "$@"', world.dataDir]
    const worker = await world.startWorker({}, apart)
    expect(worker.strategy).toBe('archive')
    const taskId = newTaskId()
    const script =
      'cat README.md && echo more >> README.md && echo "{\\"a\\":1}" > "$AGIRUNNER_OUTPUT/result.json"'
    await world.producer.enqueue({
      taskId,
      workspace: { source: { type: 'git_remote', url: world.repoUrl } },
      run: { script },
    })
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'succeeded',
      output: { a: 1 },
      changes: { files: [{ path: 'repo/README.md', status: 'modified' }] },
      container: { strategy: 'archive' },
    })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('# Demo\n')
  })
})

describe('a worker that is drained', () => {
  it('gives a task back that outlasts its drain time, and another finishes it as the same attempt', async () => {
    const first = await world.startWorker({ AGIRUNNER_DRAIN_SECONDS: '1' })
    const taskId = newTaskId()
    const script = '[ -e /tmp/never ]; echo started; sleep 10; echo done'
    await world.producer.enqueue({ taskId, run: { script } })
    await printed(taskId, 'started')
    const second = await world.startWorker()
    expect(await first.stop()).toEqual({ code: 0, signal: null })
    const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ worker: second.id, failure: null }] })
  }, 120_000)
})

describe('200 tasks over two workers', () => {
  it('give 200 results and leave nothing', async () => {
    await Promise.all([
      world.startWorker({ AGIRUNNER_CONCURRENCY: '4' }),
      world.startWorker({ AGIRUNNER_CONCURRENCY: '4' }),
    ])
    const ids = Array.from({ length: 200 }, () => newTaskId('many'))
    await world.producer.enqueueMany(
      ids.map(taskId => ({
        taskId,
        workspace: {
          source: { type: 'git_remote' as const, url: world.repoUrl, commit: world.repository.head },
        },
        run: { script: `echo ${taskId} > mine.txt; echo ${taskId}` },
      })),
    )
    const results = await Promise.all(ids.map(taskId => world.producer.waitForResult(taskId)))
    const workers = new Set(results.map((result: TaskResult) => result.worker?.id))
    expect(
      results.map(result => `${result.taskId} ${result.status} ${result.changes?.files[0]?.path}`),
    ).toEqual(ids.map(taskId => `${taskId} succeeded repo/mine.txt`))
    expect(workers.size).toBe(2)
  }, 300_000)
})
