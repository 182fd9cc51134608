import { request as ask, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Browser } from 'playwright-core'
import { startBoard, type TestBoard } from './board/board.js'
import { openBrowser, seriousProblems } from './board/browser.js'
import { BoardTasks } from './board/tasks.js'
import { enter, logIn, visit } from './board/visit.js'
import { createWorld, type World } from './support.js'

const VIEWER = 'only-to-look-at'

let world: World
let board: TestBoard
let browser: Browser

beforeAll(async () => {
  world = await createWorld()
  await world.startWorker({ AGIRUNNER_PARK: '1' })
  board = await startBoard(world.redis.url, world.queue, { AGIRUNNER_BOARD_VIEWER_PASSWORD: VIEWER })
  browser = await openBrowser()
}, 120_000)
afterAll(async () => {
  await browser.close()
  await board.stop()
  await world.close()
})

const tasks = new BoardTasks(() => world)
const { enqueue } = tasks
afterEach(async () => await tasks.end())

describe('who comes to the board', () => {
  it('sees nothing before the login, and nothing after the logout', async () => {
    const { page, go, context } = await visit(browser, board)
    for (const path of ['', 'containers', 'tasks', 'queues', 'api/overview', 'api/stream']) {
      const answer = await context.request.get(`${board.url}/${path}`)
      expect([path, answer.status()]).toEqual([path, 401])
    }
    await go('containers')
    await page.getByLabel('Password').fill('not the one')
    await page.getByRole('button', { name: 'Log in' }).click()
    await page
      .getByRole('alert')
      .getByText(/password/)
      .waitFor()
    await logIn(page, board.password)
    // At the address that it came for.
    await page.getByRole('heading', { name: /Live containers/ }).waitFor()
    const [cookie] = await context.cookies()
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict' })
    expect((await context.request.get(`${board.url}/api/overview`)).status()).toBe(200)
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByLabel('Password').waitFor()
    // The cookie itself is worth nothing any more.
    const old = { cookie: `${cookie?.name}=${cookie?.value}` }
    expect((await fetch(`${board.url}/api/overview`, { headers: old })).status).toBe(401)
    await context.close()
  })

  it('as a viewer may look and change nothing', async () => {
    const taskId = await enqueue('echo here; sleep 600')
    const { page, go, context } = await enter(browser, board, { password: VIEWER })
    await go(`tasks/${taskId}`)
    await page.getByRole('region', { name: /^Log,/ }).getByText('here').waitFor()
    const cancel = page.getByRole('button', { name: 'Cancel', exact: true })
    expect(await cancel.isDisabled()).toBe(true)
    // What the button would do, done by hand.
    const status = async (who: typeof page) =>
      await who.evaluate(async id => {
        const session = (await (await fetch('api/session')).json()) as { csrf: string }
        const answer = await fetch(`api/tasks/${id}/cancel`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-csrf-token': session.csrf },
          body: '{}',
        })
        return answer.status
      }, taskId)
    expect(await status(page)).toBe(403)
    expect(await world.producer.result(taskId)).toBeNull()
    // The control: an operator can.
    const operator = await enter(browser, board)
    expect(await status(operator.page)).toBe(200)
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ status: 'canceled' })
    await operator.context.close()
    await context.close()
  }, 60_000)

  it('finds it behind a proxy under a path, stripped or not', async () => {
    for (const strips of [true, false]) {
      const inner = await startBoard(world.redis.url, world.queue, { AGIRUNNER_BOARD_BASE: '/ops/board' })
      const proxy = await reverseProxy(inner, strips)
      const outer = { ...inner, url: `${proxy.origin}/ops/board` }
      const taskId = await enqueue('echo through the proxy')
      const { page, go, faults, context } = await enter(browser, outer)
      await go(`tasks/${taskId}`)
      await page.getByRole('region', { name: /^Log,/ }).getByText('through the proxy').waitFor()
      await page.getByRole('link', { name: 'Queues' }).click()
      await page.getByText(world.queue).first().waitFor()
      expect(new URL(page.url()).pathname).toMatch(/^\/ops\/board\/queues/)
      expect(faults).toEqual([])
      await context.close()
      await proxy.close()
      await inner.stop()
    }
  }, 90_000)
})

describe('a page of the board', () => {
  it('is there though what it loads breaks off, as it does when the network of its machine changes', async () => {
    const taskId = await enqueue('echo there')
    await world.producer.waitForResult(taskId)
    const { page, go, context } = await visit(browser, board)
    for (const end of ['pages/task.js', 'style.css', 'api/session', `api/tasks/${taskId}`]) {
      await page.route(`**/${end}`, route => route.abort('connectionreset'), { times: 1 })
    }
    await go(`tasks/${taskId}`)
    await logIn(page, board.password)
    await page.getByRole('region', { name: /^Log,/ }).getByText('there').waitFor()
    const loaded = await page.evaluate<number>('document.styleSheets.length')
    expect(loaded).toBeGreaterThan(0)
    await context.close()
  }, 60_000)
})

describe('what a task prints and names', () => {
  it('is text, whatever it looks like', async () => {
    const evil = [
      `<img src=x onerror="document.title='taken'">`,
      `<script>document.title='taken'</script>`,
      `</code></div><iframe srcdoc="<script>parent.document.title='taken'</script>"></iframe>`,
    ]
    const script = [
      ...evil.map(text => `echo '${text.replaceAll("'", `'\\''`)}'`),
      `printf '\\033]0;taken\\007after the title\\n'`,
      `printf '\\033]8;;javascript:document.title=1\\033\\\\click\\033]8;;\\033\\\\ me\\n'`,
      `printf '\\033[31mred\\033[0m \\033[2J\\033[1;1Hplain\\n'`,
      `printf '<b>name</b>' > '<img src=x onerror=alert(1)>'`,
      'exit 1',
    ].join('\n')
    const taskId = await enqueue(script, {
      labels: { role: evil[0] },
      input: { text: evil[1] },
      workspace: { source: { type: 'empty' } },
    })
    await world.producer.waitForResult(taskId)
    const { page, go, faults, context } = await enter(browser, board)
    await go(`tasks/${taskId}`)
    const log = page.getByRole('region', { name: /^Log,/ })
    for (const text of [...evil, 'after the title', 'click me'])
      await log.getByText(text, { exact: true }).waitFor()
    expect(await page.locator('main').locator('img, script, iframe, a[href^=javascript]').count()).toBe(0)
    const red = log.getByText('red', { exact: true })
    const colour = (one: typeof red) =>
      one.evaluate(element => (globalThis as unknown as Styled).getComputedStyle(element).color)
    expect(await colour(red)).not.toBe(await colour(log.getByText('after the title', { exact: true })))
    await page.getByText('<img src=x onerror=alert(1)>').first().waitFor()
    expect(await page.title()).toContain(taskId)
    expect(faults).toEqual([])
    await context.close()
  }, 60_000)

  it('holds no secret on any page', async () => {
    const token = ['ghp', 'Zk3vQ9'.repeat(6)].join('_')
    const taskId = await enqueue(`echo "the token is ${token}"; echo "${token}" > leaked.txt; exit 1`, {
      environment: { env: { API_TOKEN: 'plain-value-of-a-token' } },
      workspace: { source: { type: 'empty' } },
    })
    await world.producer.waitForResult(taskId)
    const { page, go, context } = await enter(browser, board)
    const bodies: string[] = []
    page.on('response', response => {
      response.text().then(
        text => bodies.push(text),
        () => undefined,
      )
    })
    await go(`tasks/${taskId}`)
    await page.getByRole('region', { name: /^Log,/ }).getByText('the token is').waitFor()
    await page.getByText('leaked.txt').first().waitFor()
    await go(`queues/queue/${world.queue}/${taskId}`)
    await page.getByText(taskId).first().waitFor()
    const all = [...bodies, await page.content()].join('\n')
    expect(all).toContain('leaked.txt')
    expect(all).not.toContain(token)
    expect(all).not.toContain('plain-value-of-a-token')
    await context.close()
  }, 60_000)
})

describe('every page', () => {
  // Of its own, for who logs in ten times within a minute has to wait.
  let own: TestBoard
  beforeAll(async () => {
    own = await startBoard(world.redis.url, world.queue)
  })
  afterAll(async () => await own.stop())

  it.each(['light', 'dark'] as const)(
    'has no serious barrier in %s',
    async colorScheme => {
      const taskId = await enqueue(
        'echo out; echo err >&2; echo x > a.txt; echo y > "$AGIRUNNER_OUTPUT/y"; exit 4',
        {
          workspace: { source: { type: 'empty' } },
        },
      )
      const live = await enqueue('echo alive; sleep 600')
      await world.producer.waitForResult(taskId)
      const ready: Readonly<Record<string, RegExp>> = {
        '': /Recent tasks/,
        containers: /alive/,
        tasks: new RegExp(taskId),
        [`tasks/${taskId}`]: /a\.txt/,
        queues: new RegExp(world.queue),
        [`queues/queue/${world.queue}/${taskId}`]: new RegExp(taskId),
      }
      const { page, go, faults, context } = await visit(browser, own, { colorScheme })
      const check = async (path: string, width: number) => {
        expect([path, width, await seriousProblems(page)]).toEqual([path, width, []])
        // Nothing is wider than the screen.
        const over = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
        expect([path, width, over]).toEqual([path, width, 0])
      }
      const sizes = [
        { width: 1440, height: 900 },
        { width: 390, height: 844 },
      ]
      await go('')
      await page.getByLabel('Password').waitFor()
      for (const size of sizes) {
        await page.setViewportSize(size)
        await check('login', size.width)
      }
      await logIn(page, own.password)
      for (const [path, text] of Object.entries(ready)) {
        await go(path)
        await page.getByText(text).first().waitFor()
        for (const size of sizes) {
          await page.setViewportSize(size)
          await check(path, size.width)
        }
      }
      expect(faults).toEqual([])
      await context.close()
      await world.producer.cancel(live)
    },
    120_000,
  )

  it('is reached and used by the keyboard alone', async () => {
    const taskId = await enqueue('echo alive; sleep 600')
    const { page, go, context } = await visit(browser, own)
    await go(`tasks/${taskId}`)
    await page.getByLabel('Password').waitFor()
    await press(page, 'Password')
    await page.keyboard.type(own.password)
    await page.keyboard.press('Enter')
    await page.getByRole('region', { name: /^Log,/ }).getByText('alive').waitFor()
    const names = await reach(page)
    for (const name of ['Skip to the page', 'Overview', 'Containers', 'Tasks', 'Queues', 'Log out', 'Follow'])
      expect(names).toContain(name)
    expect(names.some(name => name.startsWith('Log, '))).toBe(true)
    await press(page, 'Cancel')
    await page.keyboard.press('Enter')
    await page.getByLabel('Reason').waitFor()
    await page.keyboard.press('Escape')
    await press(page, 'Cancel')
    await page.keyboard.press('Enter')
    await page.getByLabel('Reason').waitFor()
    await press(page, 'Reason')
    await page.keyboard.type('by the keyboard')
    await page.keyboard.press('Enter')
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ status: 'canceled' })
    await context.close()
  }, 60_000)
})

/** What a page has and this program has not. */
interface Styled {
  getComputedStyle(element: unknown): { readonly color: string }
}

type Page = Awaited<ReturnType<typeof visit>>['page']

const NAME_OF_FOCUSED = `(() => {
  const at = document.activeElement
  const label = at?.labels?.[0]?.textContent ?? at?.textContent ?? ''
  return (at?.getAttribute('aria-label') ?? label).trim()
})()`

/** The name of what has the focus. */
async function focused(page: Page): Promise<string> {
  return await page.evaluate<string>(NAME_OF_FOCUSED)
}

/** Every thing that the tab key comes to, once around the page. */
async function reach(page: Page): Promise<string[]> {
  await page.evaluate('document.activeElement?.blur()')
  const names: string[] = []
  for (let presses = 0; presses < 200; presses += 1) {
    await page.keyboard.press('Tab')
    const name = await focused(page)
    if (names.length > 3 && name === names[0]) break
    names.push(name)
  }
  return names
}

/** Presses the tab key until something of that name has the focus. */
async function press(page: Page, name: string): Promise<void> {
  for (let presses = 0; presses < 200; presses += 1) {
    if ((await focused(page)) === name) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`the tab key does not come to ${name}`)
}

/** A proxy that shows a board under the path that it is told to live under, with or without that in its own requests. */
async function reverseProxy(
  to: TestBoard,
  strips: boolean,
): Promise<{ origin: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const target = new URL(to.url).origin
    const path = request.url ?? '/'
    const url = new URL(strips ? path.replace(/^\/ops\/board/, '') || '/' : path, target)
    const forward = ask(url, { method: request.method, headers: request.headers }, answer => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    forward.on('error', () => response.destroy())
    response.on('close', () => forward.destroy())
    request.pipe(forward)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
