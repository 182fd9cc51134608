import type { LogEntry } from '@agirunner/contracts'
import { describe, expect, test } from '@jest/globals'
import { LogStore, occurrences } from './log-store.js'

/** Entries with their seq; each is `[text, stream, step, attempt]`. */
function entries(...parts: [string, LogEntry['stream']?, (string | null)?, number?][]): LogEntry[] {
  return parts.map(([text, stream = 'stdout', step = null, attempt = 1], index) => ({
    taskId: 't',
    attempt,
    seq: index + 1,
    at: '2030-01-01T00:00:00.000Z',
    stream,
    step,
    offset: 0,
    text,
  }))
}

const later = (seq: number, part: Parameters<typeof entries>[number]): LogEntry[] =>
  entries(part).map(entry => ({ ...entry, seq }))

function storeOf(...parts: Parameters<typeof entries>): LogStore {
  const store = new LogStore()
  store.append(entries(...parts))
  return store
}

const shown = (store: LogStore) =>
  store.rows.map(row => (row.kind === 'section' ? `# ${row.step} ${row.attempt}` : row.raw))

describe('lines', () => {
  test('are put together from pieces, each stream for itself', () => {
    const store = storeOf(['one\ntw'], ['err', 'stderr'], ['o\nthree'], ['or\n', 'stderr'])
    expect(shown(store)).toEqual(['one', 'two', 'error', 'three'])
  })

  test('may be empty or end with a carriage return', () => {
    expect(shown(storeOf(['a\r\n\nb\n']))).toEqual(['a', '', 'b'])
  })

  test('come out the same however they are cut', () => {
    const text = 'first\n\nsecond \u001b[31mline\u001b[0m\n\nlast'
    for (let size = 1; size < text.length; size += 1) {
      const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
      expect(shown(storeOf(...pieces.map(piece => [piece] as [string])))).toEqual(text.split('\n'))
    }
  })

  test('come once, however often a stream brings them', () => {
    const store = storeOf(['a\n'], ['b\n'])
    store.append(entries(['a\n'], ['b\n'], ['c\n']))
    expect(shown(store)).toEqual(['a', 'b', 'c'])
    expect(store.seq).toBe(3)
  })

  test('without an end are cut, and nothing is lost', () => {
    const store = storeOf(['x'.repeat(100_000)], ['y\n'])
    expect(store.size).toBeGreaterThan(2)
    expect(shown(store).join('')).toBe(`${'x'.repeat(100_000)}y`)
  })

  test('that are rewritten all the time stay short', () => {
    const store = new LogStore()
    for (let percent = 0; percent < 5000; percent += 1)
      store.append(later(percent + 1, [`progress ${percent}\r`]))
    expect(store.size).toBe(1)
    expect(shown(store)[0]?.length).toBeLessThan(10_000)
    expect(shown(store)[0]).toContain('progress 4999')
  })

  test('go on in the colour of the line before, of their stream', () => {
    const { rows } = storeOf(['\u001b[32mgreen\n'], ['plain\n', 'stderr'], ['green too\n'])
    expect(rows.map(row => row.kind === 'line' && row.style.fg)).toEqual([null, null, 2])
  })
})

describe('steps', () => {
  const parts: Parameters<typeof entries> = [
    ['a\n', 'stdout', 'build'],
    ['warn\n', 'stderr', 'build'],
    ['b\n', 'stdout', 'test'],
  ]

  test('have heads that fold them', () => {
    const store = storeOf(...parts)
    expect(shown(store)).toEqual(['# build 1', 'a', 'warn', '# test 1', 'b'])
    const [build] = store.rows
    if (build?.kind !== 'section') throw new Error('no section')
    store.fold(build, true)
    expect(shown(store)).toEqual(['# build 1', '# test 1', 'b'])
    store.foldAll(true)
    expect(shown(store)).toEqual(['# build 1', '# test 1'])
  })

  test('that are folded stay so as the log grows', () => {
    const store = storeOf(...parts)
    store.foldAll(true)
    store.append(later(9, ['c\n', 'stdout', 'test']))
    expect(shown(store)).toEqual(['# build 1', '# test 1'])
  })

  test('are told apart by attempts, and the first gets its head when a second comes', () => {
    const store = storeOf(['a\n'])
    expect(shown(store)).toEqual(['a'])
    store.append(later(2, ['b\n', 'stdout', null, 2]))
    expect(shown(store)).toEqual(['# null 1', 'a', '# null 2', 'b'])
  })

  test('show one stream alone', () => {
    const store = storeOf(...parts)
    store.show('stderr')
    expect(shown(store)).toEqual(['# build 1', 'warn', '# test 1'])
    store.append(later(9, ['more\n', 'stdout', 'test']))
    expect(shown(store)).toHaveLength(3)
  })
})

describe('a search', () => {
  test('finds lines whatever their case and colour, and those that come later', () => {
    const store = storeOf(['Error one\n'], ['fine\n'], ['\u001b[31mer\u001b[1mror\u001b[0m two\n'])
    store.search('error')
    expect(store.matches).toEqual([0, 2])
    store.append(later(9, ['an ERROR again\n']))
    store.settle()
    expect(store.matches).toEqual([0, 2, 3])
    store.search('')
    expect(store.matches).toEqual([])
  })

  test('finds the rest of a line that was open', () => {
    const store = storeOf(['half a wo'])
    store.search('word')
    store.settle()
    store.append(later(9, ['rd\n']))
    store.settle()
    expect(store.matches).toEqual([0])
  })

  test('marks each occurrence', () => {
    expect(occurrences('aXaxa', 'x')).toEqual([1, 3])
    expect(occurrences('aaa', 'aa')).toEqual([0])
    expect(occurrences('abc', '')).toEqual([])
  })
})

describe('the failing line', () => {
  const failing = (store: LogStore) => store.failingLine()?.raw ?? null

  test('is the first near the end that looks like an error', () => {
    expect(
      failing(storeOf(['ok\n'], ['Error: boom\n'], ['  at x\n'], ['make: *** failed\n', 'stderr'])),
    ).toBe('Error: boom')
  })

  test('else the last of stderr, else the last', () => {
    expect(failing(storeOf(['a\n'], ['b\n', 'stderr'], ['\n', 'stderr'], ['c\n']))).toBe('b')
    expect(failing(storeOf(['a\n'], ['b\n']))).toBe('b')
    expect(failing(new LogStore())).toBeNull()
  })

  test('is shown though its step was folded', () => {
    const store = storeOf(['a\n', 'stdout', 'one'], ['error\n', 'stdout', 'two'])
    store.foldAll(true)
    const line = store.failingLine()
    const row = line ? store.reveal(line) : -1
    expect(store.rows[row]).toBe(line)
  })
})

test('a hundred thousand lines are taken in and searched', () => {
  const store = new LogStore()
  const text = Array.from({ length: 1000 }, (_, line) => `\u001b[32mok\u001b[0m ${line}\n`).join('')
  for (let seq = 1; seq <= 100; seq += 1) store.append(later(seq, [text]))
  expect(store.size).toBe(100_000)
  store.search('ok 999')
  expect(store.matches).toHaveLength(100)
})

test('the oldest lines are forgotten when there are too many', () => {
  const store = new LogStore()
  const text = 'x\n'.repeat(100_000)
  for (let seq = 1; seq <= 6; seq += 1) store.append(later(seq, [text]))
  expect(store.size + store.dropped).toBe(600_000)
  expect(store.size).toBeLessThanOrEqual(500_000)
  const [first] = store.rows
  expect(first?.kind === 'line' && first.number).toBe(store.dropped + 1)
})
