import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { OutputRun } from '../engine.js'
import { Demultiplexer } from './attach.js'

function frame(stream: number, bytes: Buffer): Buffer {
  const header = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0])
  header.writeUInt32BE(bytes.length, 4)
  return Buffer.concat([header, bytes])
}

/** The runs' bytes by stream, and the order in which the streams took turns. */
function summary(runs: readonly OutputRun[]) {
  const of = (stream: string) =>
    Buffer.concat(runs.filter(run => run.stream === stream).map(run => run.bytes))
  const turns = runs.map(run => run.stream).filter((stream, index, all) => stream !== all[index - 1])
  return { stdout: of('stdout').toString('latin1'), stderr: of('stderr').toString('latin1'), turns }
}

describe('the demultiplexer', () => {
  const frames = fc.array(fc.tuple(fc.constantFrom(1, 2), fc.uint8Array({ minLength: 1, maxLength: 40 })), {
    maxLength: 20,
  })

  test('gives each stream its bytes, wherever the chunks are cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (parts, cuts) => {
        const input = Buffer.concat(parts.map(([stream, bytes]) => frame(stream, Buffer.from(bytes))))
        const whole = summary(new Demultiplexer().push(input))
        const demultiplexer = new Demultiplexer()
        const runs: OutputRun[] = []
        for (let at = 0, turn = 0; at < input.length; turn += 1) {
          const length = cuts[turn % cuts.length] ?? 1
          runs.push(...demultiplexer.push(input.subarray(at, at + length)))
          at += length
        }
        expect(summary(runs)).toEqual(whole)
        const sent = (stream: number) =>
          parts.filter(([to]) => to === stream).map(([, bytes]) => Buffer.from(bytes).toString('latin1'))
        expect([whole.stdout, whole.stderr]).toEqual([sent(1).join(''), sent(2).join('')])
      }),
    )
  })

  test('passes the bytes of a frame on before it is whole, and holds none of them', () => {
    const demultiplexer = new Demultiplexer()
    const header = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
    expect(demultiplexer.push(header)).toEqual([])
    for (let times = 0; times < 100; times += 1) {
      expect(demultiplexer.push(Buffer.alloc(65_536))).toMatchObject([{ stream: 'stdout' }])
    }
  })

  test('makes one run of many frames of a stream', () => {
    const lines = Array.from({ length: 1000 }, () => frame(1, Buffer.from('a line\n')))
    expect(new Demultiplexer().push(Buffer.concat([...lines, frame(2, Buffer.from('!'))]))).toMatchObject([
      { stream: 'stdout', bytes: Buffer.from('a line\n'.repeat(1000)) },
      { stream: 'stderr' },
    ])
  })

  test('passes over frames without bytes', () => {
    expect(
      new Demultiplexer().push(Buffer.concat([frame(1, Buffer.alloc(0)), frame(2, Buffer.from('x'))])),
    ).toEqual([{ stream: 'stderr', bytes: Buffer.from('x') }])
  })

  test.each([
    ['of an unknown stream', [7, 0, 0, 0, 0, 0, 0, 1]],
    ['with something in its empty part', [1, 0, 1, 0, 0, 0, 0, 1]],
  ])('refuses a header %s', (_name, header) => {
    expect(() => new Demultiplexer().push(Buffer.from(header))).toThrow(/no frame/)
  })
})
