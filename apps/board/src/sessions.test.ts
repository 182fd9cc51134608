import { redisNames } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import { startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import type { Board } from './server.js'
import {
  basic,
  logIn,
  OPERATOR,
  post,
  rawGet,
  startBoard,
  VIEWER,
  type Visit,
  visit,
} from './testing/client.js'

const queue = uniqueQueue('sessions')
let redis: TestRedis
let store: Redis
let producer: Producer
let board: Board

beforeAll(async () => {
  redis = await startRedis()
  store = new Redis(redis.url)
  producer = createProducer({ redis: redis.url, queue })
  await producer.enqueue({ taskId: 't-1', run: { script: 'true' } })
  board = await startBoard(redis.url, queue)
})
afterAll(async () => {
  await board.close()
  await producer.close()
  store.disconnect()
  await redis.stop()
})

const session = (headers: Record<string, string>) => fetch(`${board.url}/api/session`, { headers })
const keysOf = () => store.keys(redisNames(queue).session('*').replace(/[{}]/g, '?'))

describe('a session', () => {
  it('begins with the password, in a cookie that no script and no other site gets', async () => {
    const { cookie, attributes, session: begun } = await visit(board.url)
    expect(attributes).toEqual(['Path=/', 'HttpOnly', 'SameSite=Strict'])
    expect(begun).toEqual({
      user: 'operator',
      role: 'operator',
      csrf: expect.stringMatching(/^\w{64}$/),
      queue,
    })
    const known = await session({ cookie })
    expect([known.status, await known.json()]).toEqual([200, begun])
  })

  it('has a cookie for https alone once a proxy on this machine says so', async () => {
    const proxied = await logIn(board.url, OPERATOR, { 'x-forwarded-proto': 'https' })
    expect(proxied.headers.get('set-cookie')).toMatch(/; Secure(;|$)/)
  })

  it('is held in Redis for 12 hours from the last use, by no more than a digest', async () => {
    const before = new Set(await keysOf())
    const { cookie } = await visit(board.url)
    const [key = '', ...others] = (await keysOf()).filter(name => !before.has(name))
    expect(others).toEqual([])
    const id = cookie.split('=')[1] ?? ''
    expect(id).toHaveLength(43)
    expect(key + (await store.get(key))).not.toContain(id)
    await store.expire(key, 60)
    expect((await session({ cookie })).status).toBe(200)
    expect(await store.ttl(key)).toBeGreaterThan(12 * 3600 - 60)
    await store.del(key)
    expect((await session({ cookie })).status).toBe(401)
  })

  it('ends by logging out, for good', async () => {
    const { cookie, session: begun } = await visit(board.url)
    const before = (await keysOf()).length
    const answer = await post(`${board.url}/api/logout`, { cookie, 'x-csrf-token': begun.csrf })
    expect(answer.status).toBe(204)
    expect(answer.headers.get('set-cookie')).toMatch(/=; .*Expires=Thu, 01 Jan 1970/)
    expect((await session({ cookie })).status).toBe(401)
    expect(await keysOf()).toHaveLength(before - 1)
  })

  it('is known to another board with the same password, and to none with another', async () => {
    const { cookie } = await visit(board.url)
    const boards = await Promise.all([
      startBoard(redis.url, queue),
      startBoard(redis.url, queue, { password: 'another password' }),
    ])
    const statuses = boards.map(
      async ({ url }) => (await fetch(`${url}/api/session`, { headers: { cookie } })).status,
    )
    expect(await Promise.all(statuses)).toEqual([200, 401])
    await Promise.all(boards.map(async other => await other.close()))
  })

  it.each(['', 'x', '../..', `${'A'.repeat(43)}`, '%00', `${'a'.repeat(5000)}`])(
    'is not made by the cookie %j',
    async value => {
      expect((await session({ cookie: `agirunner-${queue}=${value}` })).status).toBe(401)
    },
  )
})

describe('a wrong password', () => {
  it('is refused, and so is what is no password', async () => {
    const limited = await startBoard(redis.url, queue)
    for (const password of ['', 'wrong', `${OPERATOR} `]) {
      const answer = await logIn(limited.url, password)
      expect([answer.status, answer.headers.get('set-cookie')]).toEqual([401, null])
    }
    expect((await post(`${limited.url}/api/login`, {}, { password: OPERATOR, more: 1 })).status).toBe(400)
    expect((await post(`${limited.url}/api/login`, {}, [OPERATOR])).status).toBe(400)
    await limited.close()
  })

  it('can be tried ten times a minute, and then the right one neither', async () => {
    const limited = await startBoard(redis.url, queue)
    for (let count = 0; count < 10; count += 1) expect((await logIn(limited.url, 'wrong')).status).toBe(401)
    const answer = await logIn(limited.url, OPERATOR)
    expect(answer.status).toBe(429)
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await answer.json()).toEqual({ error: expect.stringMatching(/^too many requests/) })
    // Who has logged in before is not shut out.
    expect((await fetch(`${limited.url}/api/session`, { headers: basic('operator', OPERATOR) })).status).toBe(
      200,
    )
    await limited.close()
  })
})

it('whoever asks too much is told to wait', async () => {
  const limited = await startBoard(redis.url, queue)
  const statuses = new Map<number, number>()
  for (let count = 0; count < 1210; count += 1) {
    const { status } = await fetch(`${limited.url}/api/session`)
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  expect(Object.fromEntries(statuses)).toEqual({ 401: 1200, 429: 10 })
  await limited.close()
})

describe('somebody without a session', () => {
  it.each(['/', '/tasks/t-1', '/queues', '/none', '/api/overview'])(
    'gets the login at %s in a browser, and no dialog of its own',
    async path => {
      const headers = { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' }
      const answer = await fetch(`${board.url}${path}`, { headers })
      expect(answer.status).toBe(401)
      expect(answer.headers.get('www-authenticate')).toBeNull()
      expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8')
      expect(answer.headers.get('content-security-policy')).not.toContain('unsafe-inline')
      expect(await answer.text()).toMatch(/<script type="module" src="assets\/[\w-]{16}\/boot.js">/)
    },
  )

  it('gets no dialog for what a page asks either, and a program is told how to log in', async () => {
    const page = await session({ 'sec-fetch-site': 'same-origin' })
    expect([page.status, page.headers.get('www-authenticate')]).toEqual([401, null])
    const program = await session({})
    expect([program.status, program.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringMatching(/^Basic/),
    ])
  })

  it('may read the files of the pages, and only those', async () => {
    expect((await fetch(`${board.url}/assets/main.js`)).status).toBe(200)
    for (const path of [
      '/assets/',
      '/assets/main.d.ts',
      '/assets/../main.js',
      '/assets/%2e%2e/main.js',
      '/assets/..%2fmain.js',
      '/assets/..%5cmain.js',
      '/assets//etc/passwd',
      '/assets/vendor/../../main.js',
    ]) {
      const { status, body } = await rawGet(board.url, path)
      expect([path, status]).toEqual([path, status === 404 ? 404 : 401])
      expect(body).toMatch(/^\{"error":/)
    }
  })
})

describe('the roles', () => {
  it('have names of their own for programs', async () => {
    const roles = [
      [basic('operator', OPERATOR), 200],
      [basic('viewer', VIEWER), 200],
      [basic('viewer', OPERATOR), 401],
      [basic('operator', VIEWER), 401],
      [basic('', OPERATOR), 401],
    ] as const
    for (const [headers, status] of roles) expect((await session(headers)).status).toBe(status)
    const alone = await startBoard(redis.url, queue, { viewerPassword: null })
    for (const password of ['', 'null', OPERATOR, VIEWER]) {
      const headers = basic('viewer', password)
      expect((await fetch(`${alone.url}/api/session`, { headers })).status).toBe(401)
    }
    await alone.close()
  })

  it('let a viewer read, and an operator change too', async () => {
    const viewer = await visit(board.url, VIEWER)
    expect(viewer.session).toMatchObject({ user: 'viewer', role: 'viewer' })
    for (const path of ['/', '/queues', '/api/overview', '/api/tasks/t-1']) {
      expect((await fetch(`${board.url}${path}`, { headers: { cookie: viewer.cookie } })).status).toBe(200)
    }
    const change = (action: string, headers: Record<string, string>) =>
      post(`${board.url}/api/tasks/t-1/${action}`, headers)
    const token = { cookie: viewer.cookie, 'x-csrf-token': viewer.session.csrf }
    for (const action of ['cancel', 'again']) {
      for (const headers of [token, basic('viewer', VIEWER)]) {
        const answer = await change(action, headers)
        expect([answer.status, await answer.json()]).toEqual([
          403,
          { error: expect.stringMatching(/viewer/) },
        ])
      }
    }
    expect(await (await change('again', basic('operator', OPERATOR))).json()).toEqual({
      taskId: 't-1-again-1',
    })
  })
})

describe('a change', () => {
  let operator: Visit
  // It has logins of its own to count.
  let board: Board
  beforeAll(async () => {
    board = await startBoard(redis.url, queue)
    operator = await visit(board.url)
  })
  afterAll(async () => await board.close())
  const again = (headers: Record<string, string>) => post(`${board.url}/api/tasks/t-1/again`, headers)
  const withToken = () => ({ cookie: operator.cookie, 'x-csrf-token': operator.session.csrf })

  it('needs the token of its session', async () => {
    const other = await visit(board.url)
    for (const token of [null, '', 'x', other.session.csrf]) {
      const headers = { cookie: operator.cookie, ...(token !== null && { 'x-csrf-token': token }) }
      const answer = await again(headers)
      expect([answer.status, await answer.json()]).toEqual([403, { error: expect.stringMatching(/reload/) }])
      expect((await post(`${board.url}/api/logout`, headers)).status).toBe(403)
    }
    // A password that the browser sends by itself is no way around it.
    expect((await again({ cookie: operator.cookie, ...basic('operator', OPERATOR) })).status).toBe(403)
    expect((await again(withToken())).status).toBe(200)
  })

  it.each([
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
  ])('from another site (%j) is refused, with whatever it comes', async from => {
    for (const headers of [withToken(), basic('operator', OPERATOR)]) {
      const answer = await again({ ...headers, ...from })
      expect([answer.status, await answer.json()]).toEqual([
        403,
        { error: expect.stringMatching(/another site/) },
      ])
    }
    expect((await logIn(board.url, OPERATOR, from)).status).toBe(403)
  })

  it.each([{ 'sec-fetch-site': 'same-origin' }, { origin: 'OWN' }, {}])(
    'from the own site (%j) is made',
    async from => {
      const own = from.origin ? { origin: board.url } : from
      for (const headers of [withToken(), basic('operator', OPERATOR)]) {
        expect((await again({ ...headers, ...own })).status).toBe(200)
      }
    },
  )

  it('comes through a proxy that says by which name it was asked', async () => {
    const proxied = { origin: 'https://board.example', 'x-forwarded-proto': 'https' }
    expect((await again({ ...withToken(), ...proxied, 'x-forwarded-host': 'board.example' })).status).toBe(
      200,
    )
    expect((await again({ ...withToken(), ...proxied })).status).toBe(403)
  })
})
