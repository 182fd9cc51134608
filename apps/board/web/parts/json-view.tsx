import type { ComponentChild } from 'preact'
import { useState } from 'preact/hooks'

/** JSON as a tree whose branches fold; a branch is drawn when it is opened first. */
export function JsonView({ value, depth = 1 }: { value: unknown; depth?: number }) {
  return (
    <div class="json mono">
      <Node name={null} value={value} open={depth} />
    </div>
  )
}

interface NodeProps {
  readonly name: string | null
  readonly value: unknown
  /** How many levels are open at first. */
  readonly open: number
}

function Node({ name, value, open }: NodeProps) {
  const label = name === null ? null : <span class="key">{name}: </span>
  if (typeof value !== 'object' || value === null)
    return (
      <div class="leaf">
        {label}
        <span class={`value ${value === null ? 'null' : typeof value}`}>
          {JSON.stringify(value) ?? 'nothing'}
        </span>
      </div>
    )
  const entries = Object.entries(value)
  const isArray = Array.isArray(value)
  if (entries.length === 0)
    return (
      <div class="leaf">
        {label}
        {isArray ? '[]' : '{}'}
      </div>
    )
  return <Branch label={label} entries={entries} isArray={isArray} open={open} />
}

interface BranchProps {
  readonly label: ComponentChild
  readonly entries: readonly [string, unknown][]
  readonly isArray: boolean
  readonly open: number
}

function Branch({ label, entries, isArray, open }: BranchProps) {
  const [isOpen, setOpen] = useState(open > 0)
  return (
    <details open={isOpen} onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>
        {label}
        <span class="muted">{isArray ? `[${entries.length}]` : `{${entries.length}}`}</span>
      </summary>
      {isOpen && entries.map(([key, value]) => <Node key={key} name={key} value={value} open={open - 1} />)}
    </details>
  )
}
