import { useEffect, useRef, useState } from 'preact/hooks'
import { clock, duration } from '../lib/format.js'
import { type Span, type Timeline, ticksOf } from '../lib/timeline.js'

const ROW = 22
const NAMES = 96
const DURATIONS = 76
const AXIS = 22

/** The phases as bars on one axis of time: each has its name and duration beside it, so colour is never all that tells them apart. */
export function TimelineChart({ timeline, now }: { timeline: Timeline; now: number }) {
  const frame = useRef<HTMLDivElement>(null)
  const width = useWidth(frame)
  const attempts = new Set(timeline.spans.map(({ attempt }) => attempt)).size
  const isOpen = timeline.spans.some(({ end }) => end === null)
  const end = Math.max(isOpen ? now : timeline.end, timeline.start + 1)
  const room = Math.max(40, width - NAMES - DURATIONS)
  const x = (at: number) => NAMES + ((at - timeline.start) / (end - timeline.start)) * room
  const height = AXIS + timeline.spans.length * ROW
  return (
    <div class="timeline" ref={frame}>
      <svg
        width={width}
        height={height}
        viewBox={`0 0 ${width} ${height}`}
        role="img"
        aria-label={`Timeline of phases: ${timeline.spans.map(span => `${nameOf(span, attempts)} ${lengthOf(span, end)}`).join(', ')}`}
      >
        <Pattern />
        <Axis total={end - timeline.start} x={ms => x(timeline.start + ms)} height={height} room={room} />
        {timeline.spans.map((span, index) => (
          <Bar
            key={`${span.attempt} ${span.phase}`}
            span={span}
            name={nameOf(span, attempts)}
            length={lengthOf(span, end)}
            y={AXIS + index * ROW}
            from={x(span.start)}
            to={x(span.end ?? end)}
          />
        ))}
      </svg>
      <PhaseTable timeline={timeline} end={end} />
    </div>
  )
}

const nameOf = ({ attempt, phase }: Span, attempts: number) =>
  attempts > 1 ? `${attempt} · ${phase}` : phase

const lengthOf = ({ start, end }: Span, now: number) =>
  end === null ? `${duration(now - start)} so far` : duration(end - start)

/** A phase that goes on is striped. */
function Pattern() {
  return (
    <defs>
      <pattern id="going-on" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
        <rect class="stripe" width="4" height="8" />
      </pattern>
    </defs>
  )
}

interface AxisProps {
  readonly total: number
  readonly x: (ms: number) => number
  readonly height: number
  readonly room: number
}

function Axis({ total, x, height, room }: AxisProps) {
  return (
    <g class="ticks">
      {ticksOf(total, Math.max(3, Math.floor(room / 90))).map(ms => (
        <g key={ms}>
          <line x1={x(ms)} x2={x(ms)} y1={AXIS - 4} y2={height} />
          <text x={x(ms)} y={12}>
            {ms === 0 ? '0' : duration(ms)}
          </text>
        </g>
      ))}
    </g>
  )
}

interface BarProps {
  readonly span: Span
  readonly name: string
  readonly length: string
  readonly y: number
  readonly from: number
  readonly to: number
}

function Bar({ span, name, length, y, from, to }: BarProps) {
  const width = Math.max(2, to - from)
  const place = { x: from, y: y + 4, width, height: ROW - 8, rx: 2 }
  return (
    <g>
      <title>{`${name}: ${length}`}</title>
      <text class="name" x={NAMES - 8} y={y + 15}>
        {name}
      </text>
      <rect class={`phase-${span.phase}`} {...place} />
      {span.end === null && <rect fill="url(#going-on)" {...place} />}
      <text class="length" x={from + width + 6} y={y + 15}>
        {length.replace(' so far', '…')}
      </text>
    </g>
  )
}

function PhaseTable({ timeline, end }: { timeline: Timeline; end: number }) {
  return (
    <details>
      <summary>As a table</summary>
      <table class="list">
        <thead>
          <tr>
            <th scope="col">Attempt</th>
            <th scope="col">Phase</th>
            <th scope="col">Began</th>
            <th scope="col" class="right">
              Duration
            </th>
          </tr>
        </thead>
        <tbody>
          {timeline.spans.map(span => (
            <tr key={`${span.attempt} ${span.phase}`}>
              <td>{span.attempt}</td>
              <td>{span.phase}</td>
              <td>{clock(new Date(span.start).toISOString())}</td>
              <td class="right">{lengthOf(span, end)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  )
}

function useWidth(frame: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(640)
  useEffect(() => {
    const element = frame.current
    if (!element) return
    const watcher = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)))
    watcher.observe(element)
    return () => watcher.disconnect()
  }, [frame])
  return width
}
