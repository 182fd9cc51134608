import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import type { TestWorker } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, type World } from './support.js'

const COMMAND = fileURLToPath(new URL('../../../packages/cli/bin/agirunner.js', import.meta.url))
const SECRET = 'a-secret-that-is-in-a-file'

let world: World
beforeAll(async () => {
  world = await createWorld()
})
afterAll(async () => await world.close())

type More = Omit<TaskInput, 'taskId' | 'run'>

async function enqueue(script: string, artifacts: string[], more: More = {}): Promise<string> {
  const taskId = newTaskId('artifact')
  await world.producer.enqueue({
    taskId,
    run: { script },
    ...more,
    capture: { artifacts, ...more.capture },
  })
  return taskId
}

async function run(...args: Parameters<typeof enqueue>): Promise<TaskResult> {
  return await world.producer.waitForResult(await enqueue(...args))
}

const paths = ({ artifacts }: TaskResult) => artifacts.map(({ path }) => path)
const bytesOf = ({ artifacts }: TaskResult, path: string) =>
  readFileSync(fileURLToPath(artifacts.find(one => one.path === path)?.uri ?? ''))

describe.each(['overlay_volume', 'copy', 'archive'])('artifacts with strategy %s', strategy => {
  let worker: TestWorker
  beforeAll(async () => {
    worker = await world.startWorker({
      AGIRUNNER_STRATEGY: strategy,
      AGIRUNNER_SECRET_ENV: 'TOKEN',
      TOKEN: SECRET,
    })
  })
  afterAll(async () => await worker.stop())

  it('are what the globs name and what is in output, byte by byte', async () => {
    const script = `
      mkdir -p dist/deep; head -c 3000000 /dev/urandom >dist/deep/big.bin; : >dist/empty; echo x >dist/a.txt
      sha256sum dist/deep/big.bin | cut -d' ' -f1 >../output/sum; echo '{"ok":1}' >../output/result.json`
    const result = await run(script, ['repo/dist/**', 'repo/README.md'], {
      workspace: { source: { type: 'git_remote', url: world.repoUrl } },
    })
    expect(result).toMatchObject({ status: 'succeeded', output: { ok: 1 }, skipped: [] })
    expect(paths(result)).toEqual([
      'repo/README.md',
      'repo/dist/a.txt',
      'repo/dist/deep/big.bin',
      'repo/dist/empty',
      'output/sum',
    ])
    for (const { path, sizeBytes, sha256 } of result.artifacts) {
      const bytes = bytesOf(result, path)
      expect(bytes.length).toBe(sizeBytes)
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
    }
    const big = result.artifacts.find(({ path }) => path === 'repo/dist/deep/big.bin')
    expect(bytesOf(result, 'output/sum').toString().trim()).toBe(big?.sha256)
  }, 60_000)

  it.each([
    ['fails', 'exit 3', {}, 'failed'],
    ['runs into its timeout', 'sleep 60', { timeout: 1, grace: 0 }, 'timed_out'],
    ['is out of memory', 'perl -e \'$x = "x" x 2**31\'', {}, 'failed'],
  ])(
    'are kept of a task that %s, too',
    async (_name, end, limits, status) => {
      const result = await run(`echo a >../output/a.txt; ${end}`, [], {
        limits,
        environment: { resources: { memory: '64m' } },
      })
      expect(result.status).toBe(status)
      expect(paths(result)).toEqual(['output/a.txt'])
    },
    60_000,
  )
})

describe('the command line', () => {
  let worker: TestWorker
  beforeAll(async () => {
    worker = await world.startWorker()
  })
  afterAll(async () => await worker.stop())

  it('lists, prints and saves what a task left', async () => {
    const script = String.raw`mkdir ../output/sub; echo one >../output/sub/a.txt; printf x >"$(printf '../output/\033[2J')"
      for name in 'low\001' 'nl\nx'; do printf x >"$(printf "../output/$name")"; done; printf x >"$(printf '../output/bad\377')"`
    const taskId = await enqueue(script, [])
    await world.producer.waitForResult(taskId)
    const cli = (...args: string[]) =>
      spawnSync(process.execPath, [COMMAND, 'artifacts', taskId, ...args], {
        encoding: 'utf8',
        env: { ...process.env, REDIS_URL: world.redis.url, AGIRUNNER_QUEUE: world.queue },
      })
    const listed = cli()
    expect(listed.stdout).toMatch(/^SIZE +TYPE +PATH\n/)
    expect(listed.stdout).toMatch(/^4B? +text\/plain +output\/sub\/a\.txt$/m)
    expect(listed.stdout).toContain('"output/\\u001b[2J"')
    expect(listed.stdout).toContain('"output/low\\u0001"')
    expect(listed.stdout).toContain('"output/nl\\nx"')
    // Nothing that a terminal would obey: only newlines, one a line.
    expect(listed.stdout).toMatch(/^[\n\x20-\x7e]*$/)
    expect(listed.stdout.trimEnd().split('\n')).toHaveLength(5)
    expect(JSON.parse(cli('--json').stdout)).toHaveLength(4)
    expect(cli('output/sub/a.txt').stdout).toBe('one\n')
    expect(cli('output/none')).toMatchObject({ status: 2, stdout: '' })
    const folder = mkdtempSync(join(tmpdir(), 'agirunner-out-'))
    try {
      expect(cli('--out', folder).status).toBe(0)
      expect(readFileSync(join(folder, 'output/sub/a.txt'), 'utf8')).toBe('one\n')
      const again = cli('--out', folder)
      expect(again).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/it is there already; --force/),
      })
      // What is there is replaced and not written through.
      rmSync(join(folder, 'output/sub/a.txt'))
      symlinkSync('/dev/full', join(folder, 'output/sub/a.txt'))
      expect(cli('output/sub/a.txt', '--out', folder, '--force').status).toBe(0)
      expect(readFileSync(join(folder, 'output/sub/a.txt'), 'utf8')).toBe('one\n')
    } finally {
      rmSync(folder, { recursive: true })
    }
  }, 60_000)
})

describe('what a task may not leave', () => {
  beforeAll(async () => {
    await world.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN: SECRET })
  })

  it('is named with its reason, and nothing of the host is in what is kept', async () => {
    const script = `
      cd ../output
      ln -s /etc/shadow shadow; ln -s ../../../../../etc up; ln -s repo ../repo/folder-link
      mkfifo fifo; perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("socket"))'
      printf x >"$(printf 'new\\nline\\033[2J')"; printf x >"$(printf 'bad\\377')"
      echo plain >set; chmod 6755 set; ln set hard; printf %s "$TOKEN" >token
      mkdir closed; echo x >closed/a; chmod 0 closed
      mkdir d; cd d; for i in $(seq 150); do mkdir d; cd d; done; echo deep >deep.txt`
    const result = await run(script, ['repo/folder-link/**'], {
      environment: { secrets: { TOKEN: { secretRef: 'env:TOKEN', as: 'env' } } },
    })
    expect(result.status).toBe('succeeded')
    expect(paths(result)).toEqual(['output/closed/a', 'output/hard', 'output/new\nline\x1b[2J', 'output/set'])
    const reasons = Object.fromEntries(result.skipped.map(({ path, reason }) => [path, reason]))
    expect(reasons).toMatchObject({
      'output/shadow': 'symlink',
      'output/up': 'symlink',
      'output/fifo': 'fifo',
      'output/socket': 'socket',
      'output/bad\ufffd': 'name_not_utf8',
      'output/token': 'contains_secret',
    })
    expect(result.skipped.find(({ reason }) => reason === 'too_deep')?.path).toMatch(/^output(\/d){100}$/)
    const folder = dirname(fileURLToPath(result.artifacts[0]?.uri ?? ''))
    for (const name of readdirSync(folder)) {
      expect(name).toMatch(/^\d+-[A-Za-z0-9._-]+$/)
      expect(readFileSync(`${folder}/${name}`).toString()).not.toMatch(/root:|a-secret/)
      // Not the task's bits, which would be a set-user-id file of the worker's user.
      expect(statSync(`${folder}/${name}`).mode & 0o7777).toBe(0o600)
    }
  }, 60_000)

  it('is a file of 10 GB without anything in it', async () => {
    const result = await run('truncate -s 10G ../output/sparse; echo a >../output/a', [])
    expect(result).toMatchObject({ status: 'failed', failure: { code: 'task.output_limit' } })
    expect(paths(result)).toEqual(['output/a'])
    expect(result.skipped).toEqual([{ path: 'output/sparse', reason: 'too_large' }])
  }, 60_000)

  it('is more than its limit of bytes', async () => {
    const script = 'for i in 1 2 3; do head -c 400000 /dev/zero >b$i; done; echo small >z'
    const result = await run(script, ['repo/*'], { limits: { outputBytes: '1000000b' } })
    expect(paths(result)).toEqual(['repo/b1', 'repo/b2', 'repo/z'])
    expect(result.skipped).toEqual([{ path: 'repo/b3', reason: 'too_large' }])
  }, 60_000)

  it('is more files than can be named: they are counted', async () => {
    const script = `perl -e 'for (1..7000) { open F, ">", "../output/$_"; close F }'`
    const result = await run(script, [])
    expect(result.artifacts).toHaveLength(5000)
    expect(result.skipped).toHaveLength(1001)
    expect(result.skipped.at(-1)).toEqual({ path: '', reason: '1000 more' })
  }, 60_000)

  it('is a million files: the disk has an end before, and what is there is told within bounds', async () => {
    const script = `perl -e 'for (1..1e6) { open F, ">", "../output/$_" or die "$!\\n"; close F } print "all\\n"'`
    const result = await run(script, [], { environment: { resources: { disk: '512m' } } })
    expect(result).toMatchObject({ status: 'failed', failure: { code: 'task.disk_full' } })
    expect(result.artifacts).toHaveLength(5000)
    expect(result.skipped[0]?.reason).toBe('too_many_files')
    // One inode for every 16 KiB.
    expect(Number(/^(\d+) more$/.exec(result.skipped.at(-1)?.reason ?? '')?.[1])).toBeGreaterThan(20_000)
    expect((await run('echo a >../output/a', [])).status).toBe('succeeded')
  }, 120_000)

  it('goes when its time is over, and is not there before the result', async () => {
    const result = await run('echo a >../output/a', [], { capture: { retention: 'ephemeral' } })
    const file = fileURLToPath(result.artifacts[0]?.uri ?? '')
    expect(existsSync(file)).toBe(true)
    const expires = Date.parse(readFileSync(`${dirname(dirname(file))}/expires`, 'utf8'))
    expect(expires - Date.now()).toBeLessThan(3_600_001)
  }, 60_000)

  it('can be taken up by a later task of the tenant', async () => {
    const script = 'mkdir -p ../output/x; printf "from the first" >../output/x/y'
    const first = await run(script, [])
    const artifacts = [{ taskId: first.taskId, path: 'output/x/y', to: 'repo/in.txt' }]
    const second = await run('cat in.txt >../output/again', [], {
      workspace: { source: { type: 'workspace_artifacts', artifacts } },
    })
    expect(bytesOf(second, 'output/again').toString()).toBe('from the first')
  }, 60_000)
})
