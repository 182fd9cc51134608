import { useEffect, useState } from 'preact/hooks'

/** A page of the board, by its address below the base. */
export type Route =
  | { readonly page: 'overview' }
  | { readonly page: 'containers' }
  | { readonly page: 'tasks' }
  | { readonly page: 'task'; readonly taskId: string }

const PAGES: Readonly<Record<string, Route>> = {
  '': { page: 'overview' },
  containers: { page: 'containers' },
  tasks: { page: 'tasks' },
}

/** @returns null for an address that is not one of these pages, such as Bull Board's */
function routeOf(url: URL): Route | null {
  const base = new URL('.', document.baseURI)
  if (url.origin !== base.origin || !`${url.pathname}/`.startsWith(base.pathname)) return null
  const path = url.pathname.slice(base.pathname.length).replace(/\/$/, '')
  const taskId = /^tasks\/([^/]+)$/.exec(path)?.[1]
  if (taskId) return { page: 'task', taskId: decodeURIComponent(taskId) }
  return PAGES[path] ?? null
}

/** Goes to another page of the board without loading it anew. */
export function go(address: string): void {
  history.pushState(null, '', new URL(address, document.baseURI))
  dispatchEvent(new PopStateEvent('popstate'))
}

/** Whether the address is one of these pages, and not another one that only asked who is there. */
export const isHere = (): boolean => routeOf(new URL(location.href)) !== null

/** Where the page is; it follows links and the browser's history. */
export function useRoute(): Route | null {
  const [route, setRoute] = useState(() => routeOf(new URL(location.href)))
  useEffect(() => {
    const read = () => setRoute(routeOf(new URL(location.href)))
    addEventListener('popstate', read)
    document.addEventListener('click', followLink)
    return () => {
      removeEventListener('popstate', read)
      document.removeEventListener('click', followLink)
    }
  }, [])
  return route
}

function followLink(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0) return
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  const link = event.target instanceof Element ? event.target.closest('a') : null
  if (link?.target !== '' || link.hasAttribute('download')) return
  if (!routeOf(new URL(link.href))) return
  event.preventDefault()
  go(link.href)
  scrollTo(0, 0)
}
