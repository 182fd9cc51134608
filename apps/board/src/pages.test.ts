import { createHash } from 'node:crypto'
import { startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Board } from './server.js'
import { basic, logIn, OPERATOR, post, startBoard } from './testing/client.js'

const operator = basic('operator', OPERATOR)
const queue = uniqueQueue('pages')
let redis: TestRedis
let board: Board
let below: Board

beforeAll(async () => {
  redis = await startRedis()
  board = await startBoard(redis.url, queue)
  below = await startBoard(redis.url, queue, { base: '/tools/agirunner' })
})
afterAll(async () => {
  await Promise.all([board.close(), below.close()])
  await redis.stop()
})

const get = (path: string, headers: Record<string, string> = operator) =>
  fetch(`${board.url}${path}`, { headers })

describe('a page', () => {
  it.each(['/', '/containers', '/tasks', '/tasks/t-1', '/tasks/t-1?tab=log'])(
    'is the same at %s',
    async path => {
      const answer = await get(path)
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
      expect(await answer.text()).toBe(await (await get('/')).text())
    },
  )

  it('says what is not there to a person, and an error to a program', async () => {
    const page = await get('/none', { ...operator, accept: 'text/html' })
    expect([page.status, await page.text()]).toEqual([404, await (await get('/')).text()])
    const program = await get('/none')
    expect([program.status, await program.json()]).toEqual([404, { error: expect.any(String) }])
  })

  it('is allowed its own files, the one script in it, and nothing else', async () => {
    const answer = await get('/')
    const html = await answer.text()
    const scripts = [...html.matchAll(/<script(?![^>]* src=)[^>]*>([^<]*)<\/script>/g)].map(
      ([, text = '']) => text,
    )
    expect(scripts).toHaveLength(1)
    const hash = createHash('sha256')
      .update(scripts[0] ?? '')
      .digest('base64')
    expect(answer.headers.get('content-security-policy')?.split('; ')).toEqual([
      "default-src 'none'",
      `script-src 'self' 'sha256-${hash}'`,
      "style-src 'self'",
      "img-src 'self' data:",
      "connect-src 'self'",
      "base-uri 'self'",
      "form-action 'self'",
      "frame-ancestors 'none'",
    ])
    expect(html).not.toMatch(/ style=|<style| on\w+=/)
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'cache-control': 'no-store',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
  })

  it('is served by every answer under the strict policy, but for the queues to who is let in', async () => {
    for (const path of ['/none', '/api/overview', '/api/tasks/none', '/assets/none', '/healthz']) {
      const policy = (await get(path)).headers.get('content-security-policy')
      expect([path, policy]).toEqual([path, expect.stringMatching(/^default-src 'none'/)])
      expect(policy).not.toContain('unsafe-inline')
    }
    expect((await get('/queues')).headers.get('content-security-policy')).toContain(
      "style-src 'self' 'unsafe-inline'",
    )
    expect((await get('/queues', {})).headers.get('content-security-policy')).not.toContain('unsafe-inline')
  })

  it('has the queues in its own look, which ask nothing of other sites', async () => {
    const html = await (await get('/queues')).text()
    expect([...html.matchAll(/(?:href|src)="(https?:[^"]*)"/g)]).toEqual([])
    const [, style = ''] = /<link href="([^"]*queues\.css)"/.exec(html) ?? []
    const [, mark = ''] = /"boardLogo":\{"path":"([^"]*)"/.exec(html) ?? []
    const [, names = ''] = /src="([^"]*queues\.js)"/.exec(html) ?? []
    for (const path of [style, mark, names]) expect([path, (await get(path, {})).status]).toEqual([path, 200])
  })

  it('finds all that it imports', async () => {
    const html = await (await get('/')).text()
    const map = /<script type="importmap">([^<]*)/.exec(html)?.[1] ?? ''
    const { imports } = JSON.parse(map) as { imports: Record<string, string> }
    for (const path of ['/assets/main.js', ...Object.values(imports)]) {
      const answer = await get(path, {})
      expect([path, answer.status]).toEqual([path, 200])
      const names = [...(await answer.text()).matchAll(/(?:from|import) ?["']([^."'][^"']*)["']/g)].map(
        ([, name = '']) => name,
      )
      expect(Object.keys(imports)).toEqual(expect.arrayContaining(names))
    }
  })
})

describe('a file of the pages', () => {
  it('is sent again only when it is another one', async () => {
    const first = await get('/assets/main.js', {})
    expect(first.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
    expect(first.headers.get('cache-control')).toBe('no-cache')
    const etag = first.headers.get('etag') ?? ''
    const second = await get('/assets/main.js', { 'if-none-match': etag })
    expect([second.status, await second.text()]).toEqual([304, ''])
    expect((await get('/assets/main.js', { 'if-none-match': '"other"' })).status).toBe(200)
    expect((await get('/assets/vendor/preact.js', { 'if-none-match': etag })).status).toBe(200)
  })

  it('is kept under its version, and not there under another', async () => {
    const [, path = ''] = /src="(assets\/[^"]*)"/.exec(await (await get('/')).text()) ?? []
    const answer = await get(`/${path}`, {})
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([
      200,
      'public, max-age=31536000, immutable',
    ])
    expect((await get(`/${path.replace(/assets\/./, 'assets/~')}`, {})).status).toBe(404)
  })
})

describe('below a path', () => {
  it('is announced', () => {
    expect(below.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/tools\/agirunner$/)
  })

  it('answers whether a proxy takes the path away or not', async () => {
    const { origin } = new URL(below.url)
    for (const url of [below.url, origin]) {
      const asked = async (path: string, headers = operator) => await fetch(`${url}${path}`, { headers })
      for (const path of [
        '/',
        '/tasks/t-1',
        '/api/overview',
        '/queues',
        '/queues/',
        '/assets/main.js',
        '/healthz',
      ]) {
        expect([url, path, (await asked(path)).status]).toEqual([url, path, 200])
        const status = path.startsWith('/assets') || path === '/healthz' ? 200 : 401
        expect([url, path, (await asked(path, {} as typeof operator)).status]).toEqual([url, path, status])
      }
      expect(await (await asked('/')).text()).toContain('<base href="/tools/agirunner/">')
      expect(await (await asked('/queues')).text()).toContain('<base href="/tools/agirunner/queues/" />')
      expect((await post(`${url}/api/tasks/none/cancel`, operator)).status).toBe(404)
      expect((await post(`${url}/queues/api/queues/pause`, operator)).status).toBe(405)
    }
    for (const path of ['/tools/agirunner', '/tools/agirunner?x=1']) {
      expect((await fetch(`${origin}${path}`, { headers: operator })).status).toBe(200)
    }
    for (const path of ['/tools', '/tools/agirunnerx', '/tools/agirunner/tools/agirunner/tasks']) {
      expect((await fetch(`${origin}${path}`, { headers: operator })).status).toBe(404)
    }
  })

  it('keeps its cookie to itself', async () => {
    const answer = await logIn(below.url, OPERATOR)
    expect(answer.headers.get('set-cookie')).toMatch(/; Path=\/tools\/agirunner; HttpOnly; SameSite=Strict$/)
  })

  it('leads from the queues back to its pages', async () => {
    const html = await (await fetch(`${below.url}/queues`, { headers: operator })).text()
    const config = /<script id="__UI_CONFIG__" type="application\/json">([^<]*)/.exec(html)?.[1] ?? '{}'
    const { miscLinks } = JSON.parse(config.replaceAll('&#34;', '"')) as { miscLinks: { url: string }[] }
    for (const { url } of miscLinks) {
      expect((await fetch(new URL(url, below.url), { headers: operator })).status).toBe(200)
      expect(url).toMatch(/^\/tools\/agirunner\//)
    }
    expect(miscLinks).toHaveLength(3)
  })
})
