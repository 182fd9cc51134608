import { count } from '../lib/format.js'

export interface BarItem {
  readonly name: string
  readonly value: number
  readonly href?: string
}

/** A ranked list with a bar for each value, as long as its share of the greatest. */
export function Bars({
  items,
  empty,
  tone = '',
}: {
  items: readonly BarItem[]
  empty: string
  tone?: string
}) {
  const most = Math.max(1, ...items.map(({ value }) => value))
  if (items.length === 0) return <p class="nothing">{empty}</p>
  return (
    <ul class={`bars ${tone}`}>
      {items.map(({ name, value, href }) => (
        <li key={name}>
          <span class="name" title={name}>
            {href ? <a href={href}>{name}</a> : name}
          </span>
          <span class="track" aria-hidden="true">
            <span style={{ width: `${(value / most) * 100}%` }} />
          </span>
          <span class="number">{count(value)}</span>
        </li>
      ))}
    </ul>
  )
}
