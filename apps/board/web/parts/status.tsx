import { words } from '../lib/format.js'

/** Each state has a sign of its own beside its colour. */
const SIGNS: Readonly<Record<string, { sign: string; tone: string }>> = {
  succeeded: { sign: '✓', tone: 'good' },
  failed: { sign: '✕', tone: 'bad' },
  timed_out: { sign: '◷', tone: 'warn' },
  canceled: { sign: '⊘', tone: 'muted' },
  queued: { sign: '…', tone: 'muted' },
  running: { sign: '▶', tone: 'accent' },
  finished: { sign: '■', tone: 'muted' },
  starting: { sign: '◔', tone: 'muted' },
  stopping: { sign: '◕', tone: 'warn' },
  ended: { sign: '■', tone: 'muted' },
  idle: { sign: '○', tone: 'muted' },
  executing: { sign: '▶', tone: 'accent' },
  draining: { sign: '↓', tone: 'warn' },
  lost: { sign: '✕', tone: 'bad' },
}

export function Status({ name, big = false }: { name: string; big?: boolean }) {
  const { sign, tone } = SIGNS[name] ?? { sign: '•', tone: 'muted' }
  return (
    <span class={`status ${tone}${big ? ' big' : ''}`}>
      <i aria-hidden="true">{sign}</i>
      {words(name)}
    </span>
  )
}
