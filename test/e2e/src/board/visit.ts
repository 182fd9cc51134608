import type { Browser, BrowserContext, Page } from 'playwright-core'
import type { TestBoard } from './board.js'
import { openPage } from './browser.js'

export interface Visit {
  readonly page: Page
  readonly context: BrowserContext
  /** Errors of scripts, and what the page's policy forbade. */
  readonly faults: string[]
  /** Goes to one of the board's pages, such as `tasks/t-42`. */
  readonly go: (path: string) => Promise<void>
}

/** Somebody who looks at the board, and has not logged in. */
export async function visit(
  browser: Browser,
  board: TestBoard,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<Visit> {
  const opened = await openPage(browser, options)
  const go = async (path: string) => {
    await opened.page.goto(`${board.url}/${path}`)
  }
  return { ...opened, go }
}

/** The same, logged in. */
export async function enter(
  browser: Browser,
  board: TestBoard,
  {
    password = board.password,
    ...options
  }: { password?: string } & Parameters<Browser['newContext']>[0] = {},
): Promise<Visit> {
  const visitor = await visit(browser, board, options)
  await visitor.go('')
  await logIn(visitor.page, password)
  return visitor
}

export async function logIn(page: Page, password: string): Promise<void> {
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('button', { name: 'Log out' }).waitFor()
}
