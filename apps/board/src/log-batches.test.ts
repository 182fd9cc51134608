import { setImmediate } from 'node:timers/promises'
import type { LogEntry } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { logBatches } from './log-batches.js'
import { REDACTED } from './redact.js'

const TOKEN = `ghp_${'Zz9'.repeat(12)}`

function entry(seq: number, text: string, stream: LogEntry['stream'] = 'stdout'): LogEntry {
  return { taskId: 't', attempt: 1, seq, at: '2026-01-01T00:00:00.000Z', stream, step: null, offset: 0, text }
}

async function* from(entries: readonly LogEntry[]): AsyncGenerator<LogEntry> {
  for (const one of entries) {
    yield one
    await setImmediate()
  }
}

async function all(entries: readonly LogEntry[]): Promise<LogEntry[][]> {
  const batches: LogEntry[][] = []
  for await (const batch of logBatches(from(entries))) batches.push(batch)
  return batches
}

describe('log entries', () => {
  it('come together, in order, each once', async () => {
    const entries = Array.from({ length: 1200 }, (_, i) => entry(i + 1, i % 3 === 0 ? 'no end' : 'a line\n'))
    const batches = await all(entries)
    expect(batches.flat()).toEqual(entries)
    expect(batches.length).toBeLessThan(10)
    for (const batch of batches) expect(batch.length).toBeLessThanOrEqual(1000)
  })

  it('are sent before they become too much', async () => {
    const entries = Array.from({ length: 20 }, (_, i) => entry(i + 1, 'x'.repeat(65_535)))
    const batches = await all(entries)
    expect(batches.flat()).toEqual(entries)
    for (const batch of batches) expect(batch.length).toBeLessThanOrEqual(6)
  })

  it('that are quiet are not waited for, whether the last line has an end or not', async () => {
    let tell: (value: LogEntry) => void = () => undefined
    const later = new Promise<LogEntry>(resolve => {
      tell = resolve
    })
    const batches = logBatches(
      (async function* () {
        yield entry(1, 'name? ')
        yield await later
      })(),
    )
    expect((await batches.next()).value).toEqual([entry(1, 'name? ')])
    tell(entry(2, 'x\n'))
    expect((await batches.next()).value).toEqual([entry(2, 'x\n')])
    expect((await batches.next()).done).toBe(true)
  })

  it('hide a secret that is spread over several, with the other stream in between', async () => {
    const parts = [TOKEN.slice(0, 9), TOKEN.slice(9, 20), `${TOKEN.slice(20)} done\n`]
    const shown = (
      await all([
        entry(1, `push ${parts[0]}`),
        entry(2, 'warning\n', 'stderr'),
        entry(3, parts[1] ?? ''),
        entry(4, parts[2] ?? ''),
      ])
    ).flat()
    expect(shown.map(({ seq }) => seq)).toEqual([1, 2, 3, 4])
    const text = shown.filter(({ stream }) => stream === 'stdout').map(one => one.text)
    expect(text.join('')).toBe(`push ${REDACTED} done\n`)
    expect(shown[1]?.text).toBe('warning\n')
  })

  it('that fail say so to whoever reads them, and are let go of', async () => {
    let isClosed = false
    const broken = (async function* () {
      try {
        yield entry(1, 'x\n')
        throw new Error('away')
      } finally {
        isClosed = true
      }
    })()
    await expect(async () => {
      for await (const _ of logBatches(broken));
    }).rejects.toThrow('away')
    expect(isClosed).toBe(true)
  })
})
