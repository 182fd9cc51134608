import { PassThrough } from 'node:stream'
import type { LogEntry } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { type Io, Sink } from './output.js'
import { RunScreen } from './run-screen.js'

function screenWith(options: { logToStderr: boolean }) {
  const [out, err] = [new PassThrough(), new PassThrough()]
  const io: Io = { stdin: new PassThrough(), out: new Sink(out), err: new Sink(err) }
  const read = (stream: PassThrough) => String(stream.read() ?? '')
  return { screen: new RunScreen(io, options), out: () => read(out), err: () => read(err) }
}

function entry(stream: LogEntry['stream'], text: string): LogEntry {
  return { taskId: 't-1', attempt: 1, seq: 1, at: '', stream, step: null, offset: 0, text }
}

describe('RunScreen', () => {
  it('passes each stream on as it is', async () => {
    const { screen, out, err } = screenWith({ logToStderr: false })
    await screen.log(entry('stdout', 'a\r\n\0b'))
    await screen.log(entry('stderr', 'é'))
    expect([out(), err()]).toEqual(['a\r\n\0b', 'é'])
  })

  it('keeps stdout free for the result where that is wanted', async () => {
    const { screen, out, err } = screenWith({ logToStderr: true })
    await screen.log(entry('stdout', 'a\n'))
    await screen.log(entry('stderr', 'b\n'))
    expect([out(), err()]).toEqual(['', 'a\nb\n'])
  })

  it("never puts a line of its own into a line of the log's", async () => {
    const { screen, err } = screenWith({ logToStderr: false })
    await screen.log(entry('stderr', 'half'))
    await screen.say('workspace 12 ms')
    await screen.log(entry('stderr', ' a line\nnext '))
    expect(err()).toBe('half a line\nnext ')
    await screen.log(entry('stderr', 'line\n'))
    expect(err()).toBe('line\nagirunner: workspace 12 ms\n')
    await screen.say('run 3 ms')
    expect(err()).toBe('agirunner: run 3 ms\n')
  })

  it('ends below an unfinished line', async () => {
    const { screen, err } = screenWith({ logToStderr: false })
    await screen.log(entry('stderr', 'no newline'))
    await screen.say('held')
    await screen.end()
    await screen.say('succeeded')
    expect(err()).toBe('no newline\nagirunner: held\nagirunner: succeeded\n')
  })
})

describe('Sink', () => {
  it('goes quiet when its reader is gone', async () => {
    const stream = new PassThrough({ highWaterMark: 1 })
    const sink = new Sink(stream)
    const waiting = sink.write('more than it takes')
    stream.destroy(Object.assign(new Error('broken pipe'), { code: 'EPIPE' }))
    await waiting
    expect(sink.closed).toBe(true)
    await sink.write('nobody reads this')
  })
})
