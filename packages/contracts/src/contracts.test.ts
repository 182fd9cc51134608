import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from '@jest/globals'
import * as fc from 'fast-check'
import {
  EventSchema,
  FAILURE_CODES,
  FAILURES,
  formatSize,
  hashTask,
  jsonSchema,
  type LogEntry,
  LogEntrySchema,
  logEntryOf,
  nearest,
  parseSize,
  parseTask,
  ResultSchema,
  SCHEMA_NAMES,
  SpecError,
  TaskFailure,
} from './index.js'

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../fixtures/v1/${name}.json`, import.meta.url), 'utf8'))
const task = (more: object = {}) => ({ taskId: 't-1', run: { script: 'true' }, ...more })

const pushTo = (branch: string) => ({
  workspace: {
    source: { url: 'https://git.example.com/x', credentials: { password: { secretRef: 'env:GIT' } } },
  },
  capture: { push: { branch } },
})

function problemsOf(input: unknown): readonly string[] {
  try {
    parseTask(input)
  } catch (error) {
    if (error instanceof SpecError) return error.problems
    throw error
  }
  return []
}

describe('fixtures of version 1', () => {
  it.each(['task-minimal', 'task-full'])('%s still parses', name => {
    expect(problemsOf(fixture(name))).toEqual([])
  })

  it('results, events and log entries still parse to what they were', () => {
    expect(ResultSchema.parse(fixture('result-succeeded'))).toEqual(fixture('result-succeeded'))
    expect(EventSchema.parse(fixture('event'))).toEqual(fixture('event'))
    expect(LogEntrySchema.parse(fixture('log'))).toEqual(fixture('log'))
  })

  it('log entries in Redis are read with their text in a field of its own, and as they were before', () => {
    const entry = fixture('log') as LogEntry
    const { seq, text, ...head } = entry
    const json = JSON.stringify(entry)
    expect(logEntryOf(seq, new Map([['e', json]]))).toEqual(entry)
    const apart = new Map([
      ['e', JSON.stringify(head)],
      ['t', text],
    ])
    expect(logEntryOf(seq, apart)).toEqual(entry)
    expect(JSON.stringify(Object.keys(logEntryOf(seq, apart) ?? {}).toSorted())).toBe(
      JSON.stringify(Object.keys(entry).toSorted()),
    )
    expect(logEntryOf(seq, new Map([['end', '1']]))).toBeNull()
  })

  it('readers of results and events pass over keys that they do not know', () => {
    expect(() => ResultSchema.parse({ ...(fixture('result-succeeded') as object), later: 1 })).not.toThrow()
    expect(() => EventSchema.parse({ ...(fixture('event') as object), later: 1 })).not.toThrow()
  })
})

describe('sizes', () => {
  it.each([
    ['512m', 512 * 1024 ** 2],
    ['1.5Gi', 1.5 * 1024 ** 3],
    ['64KiB', 65536],
    ['64kb', 65536],
    ['10B', 10],
    ['10', 10],
    ['1T', 1024 ** 4],
    [4096, 4096],
  ])('%p is %d bytes', (input, bytes) => {
    expect(parseSize(input)).toBe(bytes)
  })

  it.each([
    '',
    'm',
    '1x',
    '-1m',
    '1 m',
    '1.m',
    '.5m',
    '1e3',
    '0x10',
    'NaN',
    1.5,
    -1,
    Number.NaN,
    '99999999t',
  ])('%p is none', input => {
    expect(() => parseSize(input)).toThrow(RangeError)
  })

  it('shows what it reads', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1023 }), fc.constantFrom('Ki', 'Mi', 'Gi'), (n, unit) => {
        fc.pre(n > 0)
        expect(parseSize(formatSize(parseSize(`${n}${unit}`)))).toBe(parseSize(`${n}${unit}`))
      }),
    )
  })
})

describe('a task', () => {
  it('has every default in place', () => {
    const parsed = parseTask(task())
    expect(parsed).toMatchObject({
      version: 1,
      tenantId: 'default',
      priority: 'normal',
      workspace: { source: { type: 'empty' }, files: [] },
      environment: {
        image: 'debian-base',
        profile: 'user',
        network: { mode: 'none' },
        resources: { memory: 2 * 1024 ** 3, pids: 256 },
      },
      limits: { timeout: 1800, grace: 10, logBytes: 64 * 1024 ** 2 },
      capture: { changes: 'patch', retention: 'days:7' },
      retry: { maxAttempts: 1, on: ['infrastructure'] },
    })
  })

  it('takes a url alone for a git remote', () => {
    expect(
      parseTask(task({ workspace: { source: { url: 'https://git.example.com/x' } } })).workspace.source,
    ).toMatchObject({
      type: 'git_remote',
      depth: 1,
    })
  })

  it('names every problem at once, with the nearest known key', () => {
    const problems = problemsOf({
      taskId: '1',
      run: {},
      lables: {},
      environment: { imge: 'x', resources: { memory: 'much' } },
    })
    expect(problems).toHaveLength(5)
    expect(problems.join('\n')).toMatch(/lables: unknown key; did you mean "labels"/)
    expect(problems.join('\n')).toMatch(/environment\.imge: unknown key; did you mean "image"/)
    expect(problems.join('\n')).toMatch(/run: needs exactly one of script, command and steps/)
  })

  it.each([
    '{"taskId":"a","run":{"script":"x"},"input":{"a":[{"__proto__":{}}]}}',
    '{"taskId":"a","run":{"script":"x"},"constructor":1}',
  ])('refuses a key that reaches a prototype: %s', text => {
    expect(problemsOf(text).join()).toMatch(/is not allowed/)
  })

  it('refuses what is too large or too deep, without overflowing', () => {
    expect(problemsOf(task({ input: 'x'.repeat(1024 * 1024) })).join()).toMatch(/larger than 1 MiB/)
    let deep: unknown = 1
    for (let i = 0; i < 100_000; i += 1) deep = [deep]
    expect(problemsOf(task({ input: deep })).join()).toMatch(/nested deeper/)
  })

  it.each([
    ['user info in a URL', { workspace: { source: { url: 'https://me:secret@git.example.com/x' } } }],
    ['another protocol', { workspace: { source: { url: 'ssh://git.example.com/x' } } }],
    ['a path that leaves the workspace', { workspace: { files: [{ path: 'repo/../../etc/x', text: '' }] } }],
    ['a file in .git', { workspace: { files: [{ path: 'repo/.git/config', text: '' }] } }],
    ['a script of 128 KiB', { run: { script: 'x'.repeat(128 * 1024) } }],
    ['a NUL byte', { run: { script: 'a\0b' } }],
    ['two ways to run', { run: { script: 'x', command: ['y'] } }],
    ['a reserved variable', { environment: { env: { AGIRUNNER_TASK_ID: 'x' } } }],
    ['a push without credentials', { capture: { push: { branch: 'x' } } }],
    ...[
      '',
      '-x',
      'a..b',
      'a b',
      'a/',
      '/a',
      'a.lock',
      '.a',
      'a/.b',
      '@{u}',
      'a~1',
      'a:b',
      'HEAD',
      'refs/heads/a',
      'a\n',
      'ö\x7f',
      'x'.repeat(300),
    ].map(branch => [`the branch ${JSON.stringify(branch)}`, pushTo(branch)] as const),
    ['a push of changes that are not read', { capture: { ...pushTo('x').capture, changes: 'none' } }],
    ['a push without a word', { capture: { push: { branch: 'x', message: ' \n' } } }],
    ['a timeout of 0', { limits: { timeout: 0 } }],
  ])('refuses %s, and says nothing secret', (_what, more) => {
    const problems = problemsOf(task(more))
    expect(problems).not.toEqual([])
    expect(problems.join()).not.toContain('secret@')
  })

  it.each(['main', 'agent/t-42', 'ö', 'a@b', '@', 'a-b_c.d', 'HEAD/x'])('takes the branch %s', branch => {
    expect(problemsOf(task(pushTo(branch)))).toEqual([])
  })

  it('never throws anything but a SpecError, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.jsonValue(),
        fc.constantFrom('workspace', 'environment', 'run', 'limits', 'capture', 'retry', 'taskId'),
        (value, key) => {
          problemsOf({ ...task(), [key]: value })
        },
      ),
    )
  })
})

/** The text that is hashed, made by JavaScript itself. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([, one]) => one !== undefined)
  const byName = entries.toSorted(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(byName.map(([key, one]) => [key, sorted(one)]))
}

describe('hashTask', () => {
  it('is of the same text as ever', () => {
    fc.assert(
      fc.property(
        fc.jsonValue(),
        fc.dictionary(fc.oneof(fc.nat(), fc.string()).map(String), fc.nat()),
        (a, b) => {
          const value = { a, b, c: undefined }
          const text = JSON.stringify(sorted(value))
          expect(hashTask(value)).toBe(createHash('sha256').update(text).digest('hex'))
        },
      ),
    )
  })

  it('does not depend on the order of keys, and does on everything else', () => {
    expect(hashTask({ a: 1, b: { c: 2, d: [1, 2] } })).toBe(hashTask({ b: { d: [1, 2], c: 2 }, a: 1 }))
    expect(hashTask({ a: [1, 2] })).not.toBe(hashTask({ a: [2, 1] }))
  })
})

describe('nearest', () => {
  it('finds a mistyped word and no far one', () => {
    expect(nearest('tiemout', ['timeout', 'grace'])).toBe('timeout')
    expect(nearest('zzz', ['timeout', 'grace'])).toBeNull()
  })
})

describe('failures', () => {
  it('carry the table into the JSON of the contract', () => {
    expect(new TaskFailure('image.not_found', 'no').toFailure('image')).toEqual({
      code: 'image.not_found',
      origin: 'platform',
      retryable: false,
      phase: 'image',
      message: 'no',
      hint: FAILURES['image.not_found'].hint,
    })
  })

  it('are all documented, and nothing else is', () => {
    const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
    const rows = [...text.matchAll(/^\| `([a-z_.]+)` +\| (\w+) +\| (yes|no) +\|/gm)].map(
      ([, code, origin, retry]) => `${code} ${origin} ${retry}`,
    )
    expect(rows).toEqual(
      FAILURE_CODES.map(
        code => `${code} ${FAILURES[code].origin} ${FAILURES[code].retryable ? 'yes' : 'no'}`,
      ),
    )
  })
})

describe('JSON Schema', () => {
  it.each(SCHEMA_NAMES)('of %s can be had', name => {
    expect(jsonSchema(name)).toMatchObject({ type: 'object', properties: expect.any(Object) })
  })
})
