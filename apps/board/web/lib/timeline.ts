import type { TaskEvent } from '@agirunner/contracts'

export interface Span {
  readonly attempt: number
  readonly phase: TaskEvent['phase']
  /** Unix milliseconds. */
  readonly start: number
  /** Null while it goes on. */
  readonly end: number | null
}

export interface Timeline {
  readonly spans: readonly Span[]
  /** Unix milliseconds; the end is the last that is known. */
  readonly start: number
  readonly end: number
}

/**
 * The phases of all attempts in their order. A phase of which only the end was told (the waiting, which no worker saw begin)
 * starts its duration earlier; one that a lost worker left open ends where the next attempt's begin.
 *
 * @param events of one task, in any order
 * @returns null when no phase is known yet
 */
export function timelineOf(events: readonly TaskEvent[]): Timeline | null {
  const spans: { attempt: number; phase: Span['phase']; start: number; end: number | null }[] = []
  for (const event of events.toSorted((one, other) => one.seq - other.seq)) {
    const at = Date.parse(event.at)
    // It is enqueued before there is an attempt, and waits for its first.
    const attempt = Math.max(1, event.attempt)
    if (event.type === 'phase.started') {
      endOlder(spans, attempt, at)
      spans.push({ attempt, phase: event.phase, start: at, end: null })
    } else if (event.type === 'phase.finished') {
      const open = spans.findLast(
        span => span.attempt === attempt && span.phase === event.phase && span.end === null,
      )
      const { durationMs } = event.data
      if (open) open.end = Math.max(at, open.start)
      else if (typeof durationMs === 'number')
        spans.push({ attempt, phase: event.phase, start: at - durationMs, end: at })
    } else if (event.type === 'attempt.finished' || event.type === 'task.finished') {
      endOlder(spans, event.type === 'task.finished' ? Number.POSITIVE_INFINITY : attempt, at, true)
    }
  }
  if (spans.length === 0) return null
  return {
    spans: spans.toSorted((one, other) => one.start - other.start),
    start: Math.min(...spans.map(({ start }) => start)),
    end: Math.max(...spans.map(({ start, end }) => end ?? start)),
  }
}

/** What happens after an attempt's end, its cleanup, is told of after it too: only what began before is ended. */
function endOlder(
  spans: { attempt: number; phase: Span['phase']; start: number; end: number | null }[],
  attempt: number,
  at: number,
  inclusive = false,
): void {
  for (const span of spans)
    if (span.end === null && (span.attempt < attempt || (inclusive && span.attempt <= attempt)))
      span.end = Math.max(span.start, at)
}

/** Round marks for an axis of so many milliseconds: at most `most` of them, the first at 0. */
export function ticksOf(spanMs: number, most: number): number[] {
  const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5]
  const step =
    STEPS.find(candidate => spanMs / candidate <= most - 1) ?? 36e5 * Math.ceil(spanMs / 36e5 / (most - 1))
  return Array.from({ length: Math.floor(spanMs / step) + 1 }, (_, index) => index * step)
}
