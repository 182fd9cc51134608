import axe from 'axe-core'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

/** How long a page may take for what is expected of it, in milliseconds. */
const WITHIN_MS = 15_000

/** Chromium without a window; it is ended by `close()`. */
export async function openBrowser(): Promise<Browser> {
  const executablePath = process.env.AGIRUNNER_TEST_BROWSER
  if (!executablePath) throw new Error('there is no browser; install chromium, or see what the set-up says')
  // As root it has no sandbox of its own; it only sees pages of this machine.
  return await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
}

/** A page of a session of its own, and what went wrong on it: errors of scripts, and what the policy forbade. */
export async function openPage(
  browser: Browser,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<{ page: Page; context: BrowserContext; faults: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options })
  context.setDefaultTimeout(WITHIN_MS)
  const page = await context.newPage()
  const faults: string[] = []
  page.on('pageerror', error => faults.push(String(error)))
  page.on('console', message => {
    if (/content security policy|refused to/i.test(message.text())) faults.push(message.text())
  })
  return { page, context, faults }
}

interface Violation {
  readonly id: string
  readonly impact: string | null
  readonly help: string
  readonly nodes: readonly { readonly html: string }[]
}

/** What axe-core finds serious or critical on a page, a line each. */
export async function seriousProblems(page: Page): Promise<string[]> {
  const violations = (await page.evaluate(
    `${axe.source}; axe.run(document).then(({ violations }) => violations)`,
  )) as Violation[]
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(
      ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`,
    )
}
