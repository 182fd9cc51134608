import { useEffect, useState } from 'preact/hooks'
import type { Store } from '../lib/store.js'

export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useState({})
  const { value } = store
  useEffect(() => {
    // It may have changed between the drawing and now.
    if (!Object.is(store.value, value)) redraw({})
    return store.subscribe(() => redraw({}))
  }, [store])
  return value
}

/** The time, told anew each so many milliseconds. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return now
}

/** What the tab is called while a page is shown. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Agirunner`
  }, [title])
}
