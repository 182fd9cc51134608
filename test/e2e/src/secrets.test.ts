import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { eventually, findSecret, type TestWorker } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { folderPlaces, inspectPlaces, type Place, processPlaces, redisPlaces } from './places.js'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

const TOKEN = 'tok-5Ecret"with\'quotes$HOME\n\\and a second line'
const OTHER = 'other-tasks-own-secret'
const PIN = '1234'

let world: World
let worker: TestWorker
beforeAll(async () => {
  world = await createWorld()
  worker = await world.startWorker({
    // What waits for a next task has a slot too.
    AGIRUNNER_PARK: '0',
    AGIRUNNER_SECRET_ENV: 'TOKEN OTHER PIN'.replaceAll(' ', ','),
    TOKEN,
    OTHER,
    PIN,
  })
})
afterAll(async () => await world.close())

type As = 'file' | 'env' | 'both'
type More = Omit<TaskInput, 'taskId' | 'run' | 'environment'> & { profile?: 'user' | 'root' }

async function enqueue(script: string, secrets: Record<string, As>, more: More = {}): Promise<string> {
  const taskId = newTaskId('secret')
  const { profile = 'user', ...rest } = more
  const named = Object.fromEntries(
    Object.entries(secrets).map(([name, as]) => [name, { secretRef: `env:${name}`, as }]),
  )
  await world.producer.enqueue({
    taskId,
    environment: { profile, secrets: named },
    run: { script },
    limits: { timeout: 60 },
    ...rest,
  })
  return taskId
}

async function run(
  ...args: Parameters<typeof enqueue>
): Promise<TaskResult & { stdout: string; stderr: string }> {
  const taskId = await enqueue(...args)
  const result = await world.producer.waitForResult(taskId)
  const { stdout, stderr } = await readLogs(world.producer, taskId)
  return { ...result, stdout, stderr }
}

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8', stdio: 'pipe' }).trim()

async function containerOf(taskId: string): Promise<string> {
  return await eventually(() => docker('ps', '-q', '--filter', `name=agirunner-${taskId}-`).split('\n')[0], {
    what: 'the container',
  })
}

/** Hexadecimal digits and not the bytes, which would be masked, and with a border, which no form of a secret has. */
const HEX = `od -An -tx1 -v | tr -d '\\n' | sed 's/  */ /g'`
const spaced = (text: string) => ` ${Buffer.from(text).toString('hex').match(/../g)?.join(' ')}`

function leaksIn(places: readonly Place[], ...secrets: string[]): string[] {
  return places.flatMap(([name, content]) =>
    secrets.flatMap(secret => findSecret(content, secret).map(form => `${name}: ${form}`)),
  )
}

describe.each(['user', 'root'] as const)('secrets of a task of profile %s', profile => {
  it('are files with the exact bytes, for its user alone, and in memory', async () => {
    const script = `
      stat -c '%a %u' /run/secrets/TOKEN; ls /run/secrets; stat -f -c %T /run/secrets
      cat /run/secrets/TOKEN | ${HEX}; echo; echo "\${TOKEN-unset}"
      (echo x >/run/secrets/TOKEN) 2>/dev/null || echo 'not to be changed'`
    const { status, stdout } = await run(script, { TOKEN: 'file', PIN: 'env' }, { profile })
    expect(status).toBe('succeeded')
    const uid = profile === 'root' ? 0 : 10_001
    expect(stdout.split('\n')).toEqual([
      `400 ${uid}`,
      'TOKEN',
      'tmpfs',
      spaced(TOKEN),
      'unset',
      'not to be changed',
      '',
    ])
  }, 60_000)

  it('are variables with the exact bytes, for its bootstrap and its steps too', async () => {
    const show = `printf %s "$TOKEN" | ${HEX}; echo; ls /run/secrets`
    const { status, stdout } = await run(show, { TOKEN: 'env' }, { profile })
    expect({ status, stdout }).toEqual({ status: 'succeeded', stdout: `${spaced(TOKEN)}\n` })
    const both = await run(`cat /run/secrets/TOKEN | ${HEX}; ${show}`, { TOKEN: 'both' }, { profile })
    expect(both.stdout).toBe(`${spaced(TOKEN)}${spaced(TOKEN)}\nTOKEN\n`)
  }, 60_000)
})

describe('a secret', () => {
  it('is nowhere but in its own container', async () => {
    const secrets = { TOKEN: 'both', OTHER: 'env' } as const
    const taskId = await enqueue('echo ready; until [ -e /tmp/go ]; do sleep 0.1; done', secrets)
    const container = await containerOf(taskId)
    await eventually(async () => (await readPart(taskId)).includes('ready'), { what: 'the task' })
    const neighbour = await run('ls /run/secrets 2>&1; env; cat /proc/[0-9]*/environ 2>/dev/null', {
      PIN: 'file',
    })
    const while_ = [
      ...(await inspectPlaces(container)),
      ...(await redisPlaces(world.redis.url)),
      ['the log of the neighbour', neighbour.stdout] as const,
      ['arguments of all processes', execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })] as const,
      ['the mounts', readFileSync('/proc/self/mountinfo', 'utf8')] as const,
    ]
    expect(leaksIn(while_, TOKEN, OTHER)).toEqual([])
    // The control: inside of it they are.
    expect(docker('exec', container, 'cat', '/run/secrets/TOKEN')).toBe(TOKEN)
    docker('exec', container, 'touch', '/tmp/go')
    const result = await world.producer.waitForResult(taskId)
    const slots = join(world.dataDir, 'slots')
    await eventually(async () => (await readdir(slots)).length === 0, { what: 'the cleanup' })
    const after = [
      ...(await folderPlaces(world.dataDir)),
      ...(await redisPlaces(world.redis.url)),
      ...(await processPlaces(worker.pid, [`TOKEN=${TOKEN}`, `OTHER=${OTHER}`, `PIN=${PIN}`])),
      ['the result', JSON.stringify(result)] as const,
      ["the worker's log", worker.log()] as const,
    ]
    expect(leaksIn(after, TOKEN, OTHER)).toEqual([])
  }, 60_000)

  it('that the task tells in every way stays untold', async () => {
    const script = `
      printf %s "$OTHER"; echo; printf 'x%s' "$OTHER" | base64 >&2
      printf '{"%s":"%s"}' "$OTHER" "$OTHER" >../output/result.json
      echo "$OTHER" >"$OTHER.txt"; git add -A; git commit -qm "it is $OTHER"
      exit 3`
    const taskId = await enqueue(script, { OTHER: 'env' }, { workspace: { source: { type: 'empty' } } })
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({
      failure: { code: 'task.exit_nonzero' },
      output: { '***': '***' },
      changes: {
        patch: null,
        files: [{ path: 'repo/***.txt' }],
        notes: [expect.stringMatching(/patch holds one of the task’s secrets/)],
      },
    })
    const events: string[] = []
    for await (const event of world.producer.events(taskId)) events.push(JSON.stringify(event))
    const { stdout, stderr } = await readLogs(world.producer, taskId)
    const log = await readFile(fileURLToPath(result.logs?.uri ?? ''), 'utf8')
    const places: Place[] = [
      ['result', JSON.stringify(result)],
      ['events', events.join('\n')],
      ['log', stdout + stderr],
      ['stored log', log],
      ...(await redisPlaces(world.redis.url)),
      ...(await folderPlaces(join(world.dataDir, 'artifacts'))),
      ["the worker's log", worker.log()],
    ]
    expect(leaksIn(places, OTHER)).toEqual([])
  }, 60_000)

  it('that is too short to be masked is named, and destroys no log', async () => {
    const { stdout, stderr } = await run('echo "$PIN and 12345"', { PIN: 'env' })
    expect(stdout).toBe('1234 and 12345\n')
    expect(stderr).toBe('agirunner: the secret PIN is too short to be masked in this log\n')
  }, 60_000)

  it('leaves no memory behind when its worker dies', async () => {
    const own = await createWorld()
    try {
      const dying = await own.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN })
      const taskId = newTaskId('secret')
      await own.producer.enqueue({
        taskId,
        environment: { secrets: { TOKEN: { secretRef: 'env:TOKEN' } } },
        run: { script: 'sleep 600' },
      })
      await containerOf(taskId)
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).toContain(`${own.dataDir}/slots/`)
      await killForGood(dying, own.dataDir)
      await own.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN })
      await eventually(
        () => !readFileSync('/proc/self/mountinfo', 'utf8').includes(`${own.dataDir}/slots/`),
        {
          what: 'the end of the memory',
          within: 40_000,
        },
      )
      await own.producer.cancel(taskId)
      await own.producer.waitForResult(taskId)
    } finally {
      await own.close()
    }
  }, 90_000)

  it.each([
    ['is not the operator’s to give', { secretRef: 'env:PATH' }, 'spec.forbidden'],
    ['is not there', { secretRef: 'file:/run/none' }, 'spec.forbidden'],
  ])('that %s is refused', async (_name, reference, code) => {
    const taskId = newTaskId('secret')
    await world.producer.enqueue({
      taskId,
      environment: { secrets: { S: reference } },
      run: { script: 'true' },
    })
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ failure: { code }, container: null })
  })

  it('is refused where it would have to go over a disk', async () => {
    const own = await createWorld()
    try {
      await own.startWorker({ AGIRUNNER_STRATEGY: 'archive', AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN })
      const taskId = newTaskId('secret')
      const secrets = { TOKEN: { secretRef: 'env:TOKEN' } }
      await own.producer.enqueue({ taskId, environment: { secrets }, run: { script: 'true' } })
      expect((await own.producer.waitForResult(taskId)).failure?.code).toBe('environment.unsupported')
    } finally {
      await own.close()
    }
  }, 60_000)
})

async function readPart(taskId: string): Promise<string> {
  let text = ''
  for await (const entry of world.producer.logs(taskId)) text += entry.text
  return text
}
