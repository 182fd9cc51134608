import { count } from '../lib/format.js'
import type { LogStore, Shown } from '../lib/log-store.js'

interface LogToolsProps {
  readonly store: LogStore
  readonly shown: Shown
  readonly query: string
  /** Which match is gone to; -1 for none. */
  readonly current: number
  readonly following: boolean
  readonly live: boolean
  readonly onShow: (shown: Shown) => void
  readonly onFind: (query: string) => void
  readonly onStep: (by: 1 | -1) => void
  readonly onFollow: (follow: boolean) => void
  /** Null when nothing failed. */
  readonly onJump: (() => void) | null
  readonly onFold: (folded: boolean) => void
}

const STREAMS = [
  { value: 'all', name: 'All' },
  { value: 'stdout', name: 'stdout' },
  { value: 'stderr', name: 'stderr' },
] as const

export function LogTools(props: LogToolsProps) {
  const { store, shown, following, live, onShow, onFollow, onJump, onFold } = props
  return (
    <div class="tools" role="toolbar" aria-label="Log">
      <div class="choice" role="group" aria-label="Stream">
        {STREAMS.map(({ value, name }) => (
          <button key={value} type="button" aria-pressed={shown === value} onClick={() => onShow(value)}>
            {name}
          </button>
        ))}
      </div>
      <Search {...props} />
      <span class="rest" />
      {store.sectioned && (
        <>
          <button type="button" onClick={() => onFold(true)}>
            Fold all
          </button>
          <button type="button" onClick={() => onFold(false)}>
            Unfold all
          </button>
        </>
      )}
      {onJump && (
        <button type="button" onClick={onJump}>
          Jump to the failing line
        </button>
      )}
      <button type="button" aria-pressed={live ? following : undefined} onClick={() => onFollow(!following)}>
        {live ? 'Follow' : 'Go to the end'}
      </button>
    </div>
  )
}

function Search({ store, query, current, onFind, onStep }: LogToolsProps) {
  const { length } = store.matches
  return (
    <div class="find" role="search">
      <input
        type="search"
        aria-label="Search the log"
        placeholder="Search the log"
        value={query}
        onInput={event => onFind(event.currentTarget.value)}
        onKeyDown={event => {
          if (event.key !== 'Enter') return
          event.preventDefault()
          onStep(event.shiftKey ? -1 : 1)
        }}
      />
      {query !== '' && (
        <>
          <span role="status">
            {length === 0 ? 'none' : `${count(Math.max(0, current) + 1)} of ${count(length)}`}
          </span>
          <button
            type="button"
            aria-label="Previous match"
            disabled={length === 0}
            onClick={() => onStep(-1)}
          >
            ↑
          </button>
          <button type="button" aria-label="Next match" disabled={length === 0} onClick={() => onStep(1)}>
            ↓
          </button>
        </>
      )}
    </div>
  )
}
