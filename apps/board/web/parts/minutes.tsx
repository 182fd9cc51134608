import { clock } from '../lib/format.js'

export interface Series {
  readonly name: string
  /** A class that colours it. */
  readonly tone: string
}

export interface MinutesProps {
  /** What it shows, for who does not see it. */
  readonly label: string
  readonly series: readonly Series[]
  /** For each minute its start, RFC 3339, and the values by series. */
  readonly minutes: readonly { readonly at: string; readonly values: readonly number[] }[]
  /** How a value is written. */
  readonly format: (value: number) => string
  readonly stretched?: boolean
}

const HEIGHT = 96
const STEP = 10

/** Columns of stacked values, one each minute. */
export function Minutes({ label, series, minutes, format }: MinutesProps) {
  const totals = minutes.map(({ values }) => values.reduce((sum, value) => sum + value, 0))
  const most = Math.max(...totals, 0)
  return (
    <figure class="minutes">
      <div class="scale" aria-hidden="true">
        <span>{most > 0 ? format(most) : ''}</span>
        <span>0</span>
      </div>
      <svg
        viewBox={`0 0 ${Math.max(1, minutes.length) * STEP} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={label}
      >
        {minutes.map(({ at, values }, index) => (
          <g key={at}>
            <title>{`${clock(at).slice(0, 5)} ${series
              .map(({ name }, nth) => `${name} ${format(values[nth] ?? 0)}`)
              .join(', ')}`}</title>
            <rect class="hover" x={index * STEP} y={0} width={STEP} height={HEIGHT} />
            {stacked(values, most).map(({ y, height }, nth) =>
              height > 0 ? (
                <rect
                  key={series[nth]?.name}
                  class={series[nth]?.tone}
                  x={index * STEP + 1}
                  y={y}
                  width={STEP - 2}
                  height={height}
                />
              ) : null,
            )}
          </g>
        ))}
      </svg>
      <div class="axis" aria-hidden="true">
        <span>{minutes[0] ? clock(minutes[0].at).slice(0, 5) : ''}</span>
        <span>now</span>
      </div>
    </figure>
  )
}

function stacked(values: readonly number[], most: number): { y: number; height: number }[] {
  let top = HEIGHT
  return values.map(value => {
    const height = most > 0 ? (value / most) * (HEIGHT - 2) : 0
    top -= height
    return { y: top, height }
  })
}

export function Legend({ series }: { series: readonly (Series & { readonly total?: string })[] }) {
  return (
    <ul class="legend">
      {series.map(({ name, tone, total }) => (
        <li key={name}>
          <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
            <rect class={tone} width="10" height="10" rx="2" />
          </svg>
          {name} {total !== undefined && <b>{total}</b>}
        </li>
      ))}
    </ul>
  )
}
