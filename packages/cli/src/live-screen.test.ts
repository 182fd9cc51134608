import { PassThrough } from 'node:stream'
import { describe, expect, it } from '@jest/globals'
import { paintFor } from './colours.js'
import { LiveScreen } from './live-screen.js'
import { Sink } from './output.js'
import { barOf } from './run-progress.js'
import { RunScreen } from './run-screen.js'

function sinkOf(terminal: object | null) {
  const stream = Object.assign(
    new PassThrough(),
    terminal ? { isTTY: true, rows: 20, columns: 60, ...terminal } : {},
  )
  return { sink: new Sink(stream), read: () => String(stream.read() ?? '') }
}

describe('LiveScreen', () => {
  it('redraws in place on a terminal', async () => {
    const { sink, read } = sinkOf({})
    const screen = new LiveScreen(sink)
    await screen.show(['one', 'two'])
    expect(read()).toContain('one\ntwo')
    await screen.show(['one', 'three'])
    const second = read()
    expect(second).toContain('three')
    expect(second).toContain('\u001b[')
    screen.end()
    expect([screen.rows, screen.columns]).toEqual([19, 60])
  })

  it.each([
    ['there is no terminal', null],
    ['it has no rows', { rows: 0 }],
    ['it has no columns', { columns: 0 }],
  ])('prints what has changed, and only then, where %s', async (_where, terminal) => {
    const { sink, read } = sinkOf(terminal)
    const screen = new LiveScreen(sink)
    await screen.show(['age 1'], 'same')
    await screen.show(['age 2'], 'same')
    await screen.show(['age 3'], 'other')
    screen.end()
    expect(read()).toBe('age 1\n\nage 3\n')
  })
})

describe('colours', () => {
  it('are for terminals, and not for who does not want them', () => {
    const { sink } = sinkOf({})
    expect(paintFor(sink, {})('failed  ')).toBe('\u001b[31mfailed  \u001b[39m')
    expect(paintFor(sink, {})('something')).toBe('something')
    expect(paintFor(sink, { NO_COLOR: '1' })('failed')).toBe('failed')
    expect(paintFor(sink, { TERM: 'dumb' })('failed')).toBe('failed')
    expect(paintFor(sinkOf(null).sink, {})('failed')).toBe('failed')
  })
})

describe('progress bars', () => {
  it('show how far pulls and clones are', () => {
    expect(barOf({ phase: 'image', data: { currentBytes: 2 ** 20, totalBytes: 4 * 2 ** 20 } })).toBe(
      'pull      [######------------------]  25% 1Mi of 4Mi',
    )
    const fetched = { stage: 'fetch', receivedObjects: 7, totalObjects: 7, bytes: 2048 }
    expect(barOf({ phase: 'workspace', data: fetched })).toBe(
      `clone     [${'#'.repeat(24)}] 100% 7 of 7 objects, 2Ki`,
    )
    expect(barOf({ phase: 'workspace', data: { ...fetched, totalObjects: 0 } })).toBe('clone     2Ki')
    expect(barOf({ phase: 'workspace', data: { stage: 'checkout', files: 3, bytes: 10 } })).toBe(
      'checkout  3 files, 10',
    )
    expect(barOf({ phase: 'workspace', data: { stage: 'resolve', ref: 'main' } })).toBeNull()
    expect(barOf({ phase: 'capture', data: { currentBytes: 1, totalBytes: 2 } })).toBeNull()
  })

  it('give way to whatever is written next, and are for terminals alone', async () => {
    const err = sinkOf({})
    const screen = new RunScreen(
      { stdin: new PassThrough(), out: err.sink, err: err.sink },
      { logToStderr: false },
    )
    await screen.bar('pull 1')
    await screen.bar('pull 2')
    await screen.say('image 2 s')
    const clear = '\r\u001b[2K'
    expect(err.read()).toBe(
      `${clear}agirunner: pull 1${clear}agirunner: pull 2${clear}agirunner: image 2 s\n`,
    )
    const entry = {
      taskId: 't',
      attempt: 1,
      seq: 1,
      at: '',
      stream: 'stdout' as const,
      step: null,
      offset: 0,
    }
    await screen.log({ ...entry, text: 'half' })
    await screen.bar('never')
    await screen.log({ ...entry, text: ' line\n' })
    expect(err.read()).toBe('half line\n')

    const plain = sinkOf(null)
    const quiet = new RunScreen(
      { stdin: new PassThrough(), out: plain.sink, err: plain.sink },
      { logToStderr: false },
    )
    await quiet.bar('pull 1')
    expect([quiet.hasBars, plain.read()]).toEqual([false, ''])
  })
})
