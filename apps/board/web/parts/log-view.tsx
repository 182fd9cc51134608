import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { clock, count } from '../lib/format.js'
import type { LogLine, LogStore, Row, Section, Shown } from '../lib/log-store.js'
import { LogText } from './log-text.js'
import { LogTools } from './log-tools.js'

const ROW = 20
/** Rows drawn above and below what is seen. */
const MARGIN = 20
const HEIGHT = 520

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
  const view = useViewport(store, version, live)
  store.settle()

  const goTo = (row: number) => {
    setMarked(store.rows[row]?.kind === 'line' ? (store.rows[row] as LogLine) : null)
    view.showRow(row)
  }
  const find = (text: string) => {
    setQuery(text)
    store.search(text)
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
  const fold = (section: Section) => {
    store.fold(section, !section.folded)
    redraw({})
  }
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
        onScroll={view.onScroll}
      >
        <div class="log-all" style={{ height: `${store.rows.length * ROW}px` }}>
          <div class="log-part" style={{ transform: `translateY(${view.first * ROW}px)` }}>
            {store.rows.slice(view.first, view.last).map((row, index) => (
              <LogRow
                key={keyOf(row, view.first + index)}
                row={row}
                query={query}
                marked={row === marked}
                onFold={fold}
              />
            ))}
          </div>
        </div>
        {store.rows.length === 0 && <p class="nothing">{live ? 'No output yet.' : 'There is no output.'}</p>}
      </div>
    </>
  )
}

const keyOf = (row: Row, index: number) => (row.kind === 'line' ? row.number : `section ${index}`)

interface LogRowProps {
  readonly row: Row
  readonly query: string
  readonly marked: boolean
  readonly onFold: (section: Section) => void
}

function LogRow({ row, query, marked, onFold }: LogRowProps) {
  if (row.kind === 'section') return <SectionHead section={row} onFold={onFold} />
  return (
    <div class={`line ${row.stream}${marked ? ' marked' : ''}`} data-line={row.number}>
      <span class="nr">{row.number}</span>
      <time dateTime={row.at}>{clock(row.at)}</time>
      <span class="stream" title={row.stream}>
        {row.stream === 'stderr' ? 'err' : ''}
      </span>
      <LogText raw={row.raw} style={row.style} query={query} />
    </div>
  )
}

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
  const before = useRef(0)

  useLayoutEffect(() => {
    const log = element.current
    if (following && log) log.scrollTop = log.scrollHeight
  }, [following, version, store.rows.length])
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
    if (element.current) element.current.scrollTop = Math.max(0, row * ROW - height / 3)
  }
  const first = Math.max(0, Math.min(Math.floor(top / ROW), store.rows.length) - MARGIN)
  const last = Math.min(store.rows.length, Math.ceil((top + height) / ROW) + MARGIN)
  return { element, first, last, following, follow: setFollowing, onScroll, showRow }
}
