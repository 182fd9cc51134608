import { setTimeout as sleep } from 'node:timers/promises'
import type { LogEntry } from '@agirunner/contracts'
import { joinSecrets, TextRedactor } from './redact-stream.js'

/** The most that is sent at once, in entries and in characters of their text. */
const ENTRIES = 500
const CHARACTERS = 256 * 1024
/** How long an entry waits for others, in milliseconds. */
const WAIT_MS = 100

/**
 * Puts log entries together for sending, and makes them fit to be shown: a secret that is spread over entries too. So an
 * entry that ends in the middle of a line waits once for the next one.
 */
export async function* logBatches(entries: AsyncIterable<LogEntry>): AsyncGenerator<LogEntry[]> {
  const reader = new Reader(entries)
  const redactors = new Map<string, TextRedactor>()
  let held: LogEntry[] = []
  try {
    while (!reader.isOver) {
      const heldBefore = held.length
      const batch = await collect(reader, held)
      const end = reader.isOver ? batch.length : endOfLines(batch, heldBefore)
      held = batch.slice(end)
      if (end > 0) yield shown(batch.slice(0, end), redactors)
    }
  } finally {
    await reader.close()
  }
}

/** What follows `held`, until it is enough or a while has passed since the first of it. */
async function collect(reader: Reader, held: readonly LogEntry[]): Promise<LogEntry[]> {
  const batch = [...held]
  let size = batch.reduce((sum, { text }) => sum + text.length, 0)
  let late = batch.length > 0 ? sleep(WAIT_MS, null) : null
  do {
    const entry = await reader.next(late)
    if (entry === null) break
    late ??= sleep(WAIT_MS, null)
    batch.push(entry)
    size += entry.text.length
  } while (batch.length < ENTRIES && size < CHARACTERS)
  return batch
}

/** Reads one entry ahead, so that it need not be waited for. */
class Reader {
  isOver = false
  readonly #iterator: AsyncIterator<LogEntry>
  #ahead: Promise<IteratorResult<LogEntry>> | null = null

  constructor(entries: AsyncIterable<LogEntry>) {
    this.#iterator = entries[Symbol.asyncIterator]()
  }

  /** The next entry; null when there is none any more, or none before `late`. */
  async next(late: Promise<null> | null): Promise<LogEntry | null> {
    this.#ahead ??= this.#iterator.next()
    const answer = await (late ? Promise.race([this.#ahead, late]) : this.#ahead)
    if (answer === null) return null
    this.#ahead = null
    if (answer.done) this.isOver = true
    return answer.done ? null : answer.value
  }

  async close(): Promise<void> {
    // Nobody asks for it any more, so nobody wants to hear why it failed either.
    this.#ahead?.catch(() => undefined)
    await this.#iterator.return?.()
  }
}

/** How many entries can go: those before the first that ends in the middle of a line and has not waited yet. */
function endOfLines(batch: readonly LogEntry[], waited: number): number {
  const last = new Map(batch.map((entry, index) => [entry.stream, index]))
  const open = [...last.values()].filter(index => index >= waited && !batch[index]?.text.endsWith('\n'))
  return Math.min(batch.length, ...open)
}

function shown(batch: readonly LogEntry[], redactors: Map<string, TextRedactor>): LogEntry[] {
  const texts = new Map<LogEntry, string>()
  for (const stream of new Set(batch.map(entry => entry.stream))) {
    const entries = batch.filter(entry => entry.stream === stream)
    const redactor = redactors.get(stream) ?? new TextRedactor()
    redactors.set(stream, redactor)
    const joined = joinSecrets(entries.map(({ text }) => text))
    for (const [index, entry] of entries.entries()) texts.set(entry, redactor.redact(joined[index] ?? ''))
  }
  return batch.map(entry => ({ ...entry, text: texts.get(entry) ?? '' }))
}
