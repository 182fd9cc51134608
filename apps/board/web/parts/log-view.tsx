import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { clock, count } from '../lib/format.js'
import type { LogLine, LogStore, Section, Shown } from '../lib/log-store.js'
import { LogText } from './log-text.js'
import { LogTools } from './log-tools.js'
import { memo } from './memo.js'

const ROW = 20
/** Rows drawn above and below what is seen. */
const MARGIN = 20
const HEIGHT = 520
/** A longer log is searched when the typing pauses. */
const LONG = 20_000

interface LogViewProps {
  readonly store: LogStore
  /** Grows whenever the store got something. */
  readonly version: number
  /** Whether more may come. */
  readonly live: boolean
  /** Whether there is a failure to look for. */
  readonly failed: boolean
}

export function LogView({ store, version, live, failed }: LogViewProps) {
  const [shown, setShown] = useState<Shown>('all')
  const [query, setQuery] = useState('')
  const [current, setCurrent] = useState(-1)
  const [marked, setMarked] = useState<LogLine | null>(null)
  const [, redraw] = useState({})
  const search = useRef<ReturnType<typeof setTimeout>>(undefined)
  const view = useViewport(store, version, live)
  store.settle()

  const goTo = (row: number) => {
    setMarked(store.rows[row]?.kind === 'line' ? (store.rows[row] as LogLine) : null)
    view.showRow(row)
  }
  const find = (text: string) => {
    setQuery(text)
    clearTimeout(search.current)
    if (store.size > LONG) search.current = setTimeout(() => look(text), 150)
    else look(text)
  }
  const look = (text: string) => {
    if (text !== '') store.foldAll(false)
    store.search(text)
    redraw({})
    const next = store.matches.findIndex(row => row >= view.first)
    setCurrent(next === -1 ? store.matches.length - 1 : next)
    const row = store.matches[next === -1 ? store.matches.length - 1 : next]
    if (row !== undefined) goTo(row)
  }
  const step = (by: 1 | -1) => {
    const matches = store.matches.length
    if (matches === 0) return
    const next = (Math.max(current, by === 1 ? -1 : 0) + by + matches) % matches
    setCurrent(next)
    goTo(store.matches[next] ?? 0)
  }
  const jump = () => {
    const line = store.failingLine()
    if (!line) return
    if (shown !== 'all' && shown !== line.stream) show('all')
    goTo(store.reveal(line))
    view.element.current?.focus({ preventScroll: true })
  }
  const show = (next: Shown) => {
    setShown(next)
    store.show(next)
    setCurrent(-1)
  }
  const fold = useCallback(
    (section: Section) => {
      store.fold(section, !section.folded)
      redraw({})
    },
    [store],
  )
  return (
    <>
      <LogTools
        store={store}
        shown={shown}
        query={query}
        current={current}
        following={view.following}
        live={live}
        onShow={show}
        onFind={find}
        onStep={step}
        onFollow={view.follow}
        onJump={failed ? jump : null}
        onFold={folded => {
          store.foldAll(folded)
          redraw({})
        }}
      />
      {store.dropped > 0 && (
        <p class="note">The first {count(store.dropped)} lines are no longer kept in this page.</p>
      )}
      <div
        class="log"
        ref={view.element}
        role="region"
        aria-label={`Log, ${count(store.size)} lines`}
        tabIndex={0}
        style={{ height: `${heightOf(store.rows.length, live)}px` }}
        onScroll={view.onScroll}
      >
        <div class="log-all" style={{ height: `${store.rows.length * ROW}px` }}>
          <div class="log-part" style={{ transform: `translateY(${view.first * ROW}px)` }}>
            {store.rows
              .slice(view.first, view.last)
              .map((row, index) =>
                row.kind === 'section' ? (
                  <SectionHead key={`section ${view.first + index}`} section={row} onFold={fold} />
                ) : (
                  <Line key={row.number} line={row} raw={row.raw} query={query} marked={row === marked} />
                ),
              )}
          </div>
        </div>
        {store.rows.length === 0 && <p class="nothing">{live ? 'No output yet.' : 'There is no output.'}</p>}
      </div>
    </>
  )
}

/** A log that is over takes no more room than it needs. */
const heightOf = (rows: number, live: boolean): number =>
  rows === 0 ? 3 * ROW : live ? HEIGHT : Math.min(HEIGHT, (rows + 1) * ROW)

interface LineProps {
  readonly line: LogLine
  /** The line's own, which grows while it is open. */
  readonly raw: string
  readonly query: string
  readonly marked: boolean
}

const Line = memo(({ line, raw, query, marked }: LineProps) => (
  <div class={`line ${line.stream}${marked ? ' marked' : ''}`} data-line={line.number}>
    <span class="nr">{line.number}</span>
    <time dateTime={line.at}>{clock(line.at)}</time>
    <span class="stream" title={line.stream}>
      {line.stream === 'stderr' ? 'err' : ''}
    </span>
    <LogText raw={raw} style={line.style} query={query} />
  </div>
))

function SectionHead({ section, onFold }: { section: Section; onFold: (section: Section) => void }) {
  const name = section.step === null ? 'script' : section.step
  return (
    <button type="button" class="section" aria-expanded={!section.folded} onClick={() => onFold(section)}>
      <i aria-hidden="true">{section.folded ? '▸' : '▾'}</i>
      <b>{name}</b>
      <span class="muted">
        {section.attempt > 1 && `attempt ${section.attempt} · `}
        {count(section.lines)} lines{section.errors > 0 && `, ${count(section.errors)} on stderr`}
      </span>
    </button>
  )
}

/** Which rows are seen, and whether the view stays at the end as the log grows. */
function useViewport(store: LogStore, version: number, live: boolean) {
  const element = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(HEIGHT)
  const [following, setFollowing] = useState(live)
  const [goal, setGoal] = useState<{ readonly row: number } | null>(null)
  const before = useRef(0)

  useLayoutEffect(() => {
    const log = element.current
    if (following && log) log.scrollTop = log.scrollHeight
  }, [following, version, store.rows.length])
  useLayoutEffect(() => {
    // Only now the view is as high as it has to be, when steps were unfolded for it.
    if (goal && element.current) element.current.scrollTop = Math.max(0, goal.row * ROW - height / 3)
  }, [goal])
  useEffect(() => {
    const log = element.current
    if (!log) return
    const watcher = new ResizeObserver(() => setHeight(log.clientHeight))
    watcher.observe(log)
    return () => watcher.disconnect()
  }, [])

  const onScroll = () => {
    const log = element.current
    if (!log) return
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 2 * ROW
    if (log.scrollTop < before.current && !isAtEnd) setFollowing(false)
    before.current = log.scrollTop
    setTop(log.scrollTop)
  }
  const showRow = (row: number) => {
    setFollowing(false)
    setGoal({ row })
  }
  const first = Math.max(0, Math.min(Math.floor(top / ROW), store.rows.length) - MARGIN)
  const last = Math.min(store.rows.length, Math.ceil((top + height) / ROW) + MARGIN)
  return { element, first, last, following, follow: setFollowing, onScroll, showRow }
}
