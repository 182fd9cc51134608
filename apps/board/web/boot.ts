/**
 * Loads the board. A browser breaks off all that it is loading when its machine's network changes, as the start of each
 * container changes it where the board is looked at: then the page is loaded again.
 */
const KEY = 'agirunner-loads'
const MOST = 5
const PAUSE_MS = 200

async function load(): Promise<void> {
  // A style sheet holds up scripts: it is there by now, or will not come.
  if (document.styleSheets.length === 0) throw new Error('the style sheet did not come')
  await import('./main.js')
  sessionStorage.removeItem(KEY)
}

load().catch((error: unknown) => {
  const loads = Number(sessionStorage.getItem(KEY) ?? 0) + 1
  sessionStorage.setItem(KEY, String(loads))
  if (loads <= MOST) setTimeout(() => location.reload(), PAUSE_MS * loads)
  else document.body.append(`The board can't be loaded: ${String(error)}. Reload the page.`)
})
