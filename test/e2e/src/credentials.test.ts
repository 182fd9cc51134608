import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { REDIS_PREFIX, type TaskResult } from '@agirunner/contracts'
import {
  eventually,
  findSecret,
  type GitServer,
  secretForms,
  serveGit,
  type TestWorker,
} from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Queue } from 'bullmq'
import {
  boardPlaces,
  folderPlaces,
  insidePlaces,
  inspectPlaces,
  type Place,
  processPlaces,
  redisPlaces,
} from './places.js'
import { type AtFetch, type PrivateRemote, startPrivateRemote } from './private-remote.js'
import { createWorld, newTaskId, type World } from './support.js'

const USER = 'someone'
/** Told apart by every encoding, and nothing that anything else would hold. */
const TOKEN = 't0k"en\\/+% ~?>1f3870be274f6c49b3e31a0c6728957f'
const WRONG = 'wr0ng"\\/+% ~?>9d5ed678fe57bcca610140957afab571'
/** Where the worker has them: by design in its own environment, and nowhere else. */
const VARIABLES = { GIT_TOKEN: TOKEN, GIT_WRONG: WRONG }
const BY_DESIGN = Object.entries(VARIABLES).map(([name, value]) => `${name}=${value}`)

let world: World
let server: GitServer
let remote: PrivateRemote
let worker: TestWorker
const taskIds: string[] = []

beforeAll(async () => {
  world = await createWorld()
  server = await serveGit({
    root: dirname(world.repository.path),
    auth: { username: USER, password: TOKEN },
  })
  remote = await startPrivateRemote(server.url)
  worker = await world.startWorker({
    ...VARIABLES,
    AGIRUNNER_SECRET_ENV: Object.keys(VARIABLES).join(','),
    AGIRUNNER_LOG_LEVEL: 'debug',
  })
}, 90_000)

afterAll(async () => {
  await world.close()
  await remote.close()
  await server.close()
}, 60_000)

/** One line for each secret and form that was found. */
function leaksIn(places: readonly Place[]): string[] {
  expect(places.length).toBeGreaterThan(0)
  return places.flatMap(([name, content]) =>
    [TOKEN, WRONG].flatMap(secret => findSecret(content, secret).map(form => `${name}: ${form}`)),
  )
}

async function enqueue(script: string, password = 'env:GIT_TOKEN', more: object = {}): Promise<string> {
  const taskId = newTaskId('secret')
  taskIds.push(taskId)
  const credentials = { username: USER, password: { secretRef: password } }
  const source = { type: 'git_remote' as const, url: `${remote.url}/demo.git`, credentials, ...more }
  await world.producer.enqueue({ taskId, workspace: { source }, run: { script } })
  return taskId
}

/** What is there while a worker runs, whatever it does. */
async function outside(): Promise<Place[]> {
  const places = await Promise.all([
    redisPlaces(world.redis.url),
    folderPlaces(world.dataDir),
    processPlaces(worker.pid, BY_DESIGN),
  ])
  return [...places.flat(), ["the worker's log", worker.log()]]
}

/** What a task leaves, as its platform and its operators see it. */
async function afterwards(taskId: string, result: TaskResult): Promise<Place[]> {
  const told: Place[] = [['result', JSON.stringify(result)]]
  for await (const entry of world.producer.logs(taskId)) told.push(['log', entry.text])
  for await (const event of world.producer.events(taskId)) told.push(['event', JSON.stringify(event)])
  const board = await boardPlaces(world.redis.url, world.queue, [taskId])
  return [...told, ...(await outside()), ...board]
}

/** Stops fetches until they are let go. */
function barrier() {
  let arrived: () => void = () => undefined
  let open: () => void = () => undefined
  const reached = new Promise<void>(resolve => {
    arrived = resolve
  })
  const opened = new Promise<void>(resolve => {
    open = resolve
  })
  const atFetch: AtFetch = async () => {
    arrived()
    await opened
  }
  return { atFetch, reached, open: () => open() }
}

const docker = (args: readonly string[], input = '') =>
  execFileSync('docker', args, { input, stdio: ['pipe', 'pipe', 'pipe'], encoding: 'utf8' }).trim()

async function runningContainer(): Promise<string> {
  return await eventually(
    () => docker(['ps', '-q', '--filter', `label=agirunner.worker=${worker.id}`]).split('\n')[0],
    { what: 'the container' },
  )
}

/** Prints what it can see, and waits to be let go. */
const LOOK = [
  'env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" "\\n"',
  'git config --list; cat .git/config 2>/dev/null; echo looked > new.txt; echo ready',
  'until [ -e /tmp/go ]; do sleep 0.1; done',
].join('\n')

async function printedReady(taskId: string): Promise<void> {
  for await (const { text } of world.producer.logs(taskId, { follow: true })) {
    if (/^ready$/m.test(text)) return
  }
  throw new Error(`the task ended: ${JSON.stringify(await world.producer.result(taskId))}`)
}

describe('credentials of a repository', () => {
  it('reach its server, and nothing else, at no time', async () => {
    const { atFetch, reached, open } = barrier()
    remote.atFetch = atFetch
    const taskId = await enqueue(LOOK)
    await reached
    // The children at work are among them: the worker itself, one that fetches and one that is kept warm.
    const fetching = await processPlaces(worker.pid, BY_DESIGN)
    expect(fetching.filter(([name]) => name.startsWith('argument')).join('\n')).toContain('git/child.js')
    expect(leaksIn([...fetching, ...(await outside())])).toEqual([])
    open()
    await printedReady(taskId)
    const container = await runningContainer()
    const seen = [
      ...(await insidePlaces(container)),
      ...(await inspectPlaces(container)),
      ...(await outside()),
    ]
    expect(leaksIn(seen)).toEqual([])
    docker(['exec', container, 'touch', '/tmp/go'])
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({ status: 'succeeded', base: { commit: world.repository.head } })
    expect(leaksIn(await afterwards(taskId, result))).toEqual([])
    const sent = `Basic ${Buffer.from(`${USER}:${TOKEN}`).toString('base64')}`
    expect([...remote.authorizations]).toEqual([sent])
  }, 120_000)

  it('are not told when they are wrong', async () => {
    const taskId = await enqueue('true', 'env:GIT_WRONG')
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({ status: 'failed', failure: { code: 'workspace.auth_failed' } })
    expect(leaksIn(await afterwards(taskId, result))).toEqual([])
  }, 60_000)

  /** Servers do say such things: "token … has no access to this repository". */
  it.each<[string, (said: string) => Buffer, string]>([
    ['in a refusal', said => line(`ERR no access with ${said}`), 'no access with ***'],
    [
      'in a message',
      said => Buffer.concat([line('NAK\n'), line(`\x03no access with ${said}`)]),
      'no access with ***',
    ],
    ['in what is no answer', said => Buffer.from(said), 'where the length of a line belongs'],
  ])(
    'are not told when the server breaks and tells them itself, %s',
    async (_where, answer, told) => {
      remote.atFetch = (response, authorization) => {
        const encoded = authorization.replace('Basic ', '')
        const plain = Buffer.from(encoded, 'base64').toString()
        response.end(answer([plain.slice(USER.length + 1), encoded, encodeURIComponent(plain)].join(' ')))
      }
      await world.repository.change(async more => void (await more.commit('something to fetch')))
      const taskId = await enqueue('true', 'env:GIT_TOKEN', { ref: 'main' })
      const result = await world.producer.waitForResult(taskId)
      const message = expect.stringContaining(told)
      expect(result).toMatchObject({
        status: 'failed',
        failure: { code: 'workspace.remote_broken', message },
      })
      expect(leaksIn(await afterwards(taskId, result))).toEqual([])
    },
    60_000,
  )
})

const line = (content: string) =>
  Buffer.from((content.length + 4).toString(16).padStart(4, '0') + content, 'latin1')

const FORMS = secretForms(TOKEN)

/** That every form was found in each of these places, by the first word of the place's name. */
function expectFound(places: readonly Place[], kinds: readonly string[]): void {
  const found = new Set(leaksIn(places).map(leak => `${leak.split(' ')[0]}: ${leak.split(': ').at(-1)}`))
  const wanted = kinds.flatMap(kind => FORMS.map(({ name }) => `${kind}: ${name}`))
  expect(wanted.filter(one => !found.has(one))).toEqual([])
}

/** Without these, an empty list of leaks would say nothing. */
describe('the search', () => {
  it('finds every form in Redis', async () => {
    const queue = new Queue(`${world.queue}-planted`, {
      connection: { url: world.redis.url },
      prefix: REDIS_PREFIX,
    })
    try {
      for (const { text } of FORMS) await queue.add(text, { text })
      expectFound(await redisPlaces(world.redis.url), ['redis'])
    } finally {
      await queue.obliterate({ force: true })
      await queue.close()
    }
    expect(leaksIn(await redisPlaces(world.redis.url))).toEqual([])
  })

  it('finds every form in files, arguments and environments', async () => {
    const folder = join(dirname(world.dataDir), 'planted/deep/er')
    mkdirSync(folder, { recursive: true })
    for (const { name, text } of FORMS) writeFileSync(join(folder, name), `before ${text} behind`)
    const variables = FORMS.map(({ text }, index) => [`PLANTED_${index}`, text])
    const child = spawn('sh', ['-c', 'echo ready; read -r _', ...FORMS.map(({ text }) => text)], {
      env: Object.fromEntries(variables),
    })
    await once(child.stdout, 'data')
    const places = [...(await folderPlaces(dirname(folder))), ...(await processPlaces(process.pid))]
    const exited = once(child, 'exit')
    child.stdin.end('\n')
    await exited
    expectFound(places, ['file', 'argument', 'environment'])
  })

  it('finds every form in a container and in what the engine tells of it', async () => {
    const taskId = newTaskId('secret')
    await world.producer.enqueue({ taskId, run: { script: LOOK } })
    await printedReady(taskId)
    const container = await runningContainer()
    const all = FORMS.map(({ text }) => text).join('\n')
    docker(['exec', '-i', container, 'sh', '-c', 'cat > /tmp/planted'], all)
    docker(['exec', '-i', '-w', '/workspace/repo', container, 'git', 'hash-object', '-w', '--stdin'], all)
    const variables = FORMS.flatMap(({ text }, index) => ['-e', `PLANTED_${index}=${text}`])
    docker(['exec', '-d', ...variables, container, 'sh', '-c', 'touch /tmp/there; sleep 60'])
    const isThere = () => docker(['exec', container, 'ls', '/tmp']).includes('there')
    await eventually(isThere, { what: 'the process with the planted environment' })
    expectFound(await insidePlaces(container), ['files', 'objects', 'processes'])

    const image = docker(['inspect', '--format', '{{.Image}}', container])
    const other = docker(['create', ...variables, image, 'true'])
    try {
      // The engine tells it in JSON: what has quotes or a backslash is escaped once more.
      const told = leaksIn(await inspectPlaces(other)).map(leak => leak.split(': ').at(-1))
      expect(told).toEqual(expect.arrayContaining(['in JSON', 'in JSON in JSON', 'in hex', 'in a URL']))
    } finally {
      docker(['rm', '-f', other])
    }
    docker(['exec', container, 'touch', '/tmp/go'])
    await world.producer.waitForResult(taskId)
  }, 120_000)
})
