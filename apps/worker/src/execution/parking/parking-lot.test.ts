import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import type { ImageInfo } from '../../engine/engine.js'
import { createLog } from '../../support/log.js'
import { keyOf, type Shape } from '../shape.js'
import type { ParkedContainer } from './parked-container.js'
import { ParkingLot, type ParkingLotOptions } from './parking-lot.js'

const image = { id: 'sha256:one' } as ImageInfo
const shape = (reference: string): Shape => ({
  reference,
  profile: 'user',
  runtime: null,
  network: 'none',
  resources: { cpu: 1, memory: 1, pids: 1, disk: 1, tmp: 1, shm: 1 },
  secrets: false,
})

let made: string[]
let released: string[]
let park: ParkingLotOptions['park']
let hasRoom: boolean
beforeEach(() => {
  jest.useFakeTimers()
  made = []
  released = []
  hasRoom = true
  park = one => {
    made.push(one.reference)
    return Promise.resolve({
      key: keyOf(one),
      shape: one,
      id: `${one.reference}-${made.length}`,
      parkedAt: Date.now(),
      release: () => {
        released.push(one.reference)
        return Promise.resolve()
      },
    } as unknown as ParkedContainer)
  }
})
afterEach(() => {
  jest.useRealTimers()
})

function open(options: Partial<ParkingLotOptions> = {}): ParkingLot {
  return new ParkingLot({
    max: 3,
    memoryBytes: 2 ** 30,
    maxAgeMs: 60_000,
    park: (...args) => park(...args),
    hasRoom: () => Promise.resolve(hasRoom),
    changed: () => undefined,
    log: createLog('error', {}),
    ...options,
  })
}

/** A task of that shape that ran and ended. */
async function ran(lot: ParkingLot, reference: string): Promise<void> {
  lot.use(shape(reference), image, Promise.resolve())
  await jest.advanceTimersByTimeAsync(2000)
}

describe('a parking lot', () => {
  it('has nothing for the first task of a shape, and one for the next', async () => {
    const lot = open()
    expect(lot.take(shape('a'))).toBeNull()
    await ran(lot, 'a')
    expect(lot.take(shape('b'))).toBeNull()
    expect(lot.take(shape('a'))?.id).toBe('a-1')
    expect(lot.take(shape('a'))).toBeNull()
    expect(lot.status()).toMatchObject({ hits: 1, misses: 3, parked: [] })
  })

  it('gives one of other processors and memory where there is none of the same', async () => {
    const lot = open()
    const like = (cpu: number, disk = 1) => {
      const one = shape('a')
      return { ...one, resources: { ...one.resources, cpu, disk } }
    }
    for (const cpu of [1, 2]) {
      lot.use(like(cpu), image, Promise.resolve())
      await jest.advanceTimersByTimeAsync(2000)
    }
    expect(lot.take(like(1, 2))).toBeNull()
    expect(lot.take(like(2))?.shape.resources.cpu).toBe(2)
    expect(lot.take(like(2))?.shape.resources.cpu).toBe(1)
  })

  it('waits while a task has just begun, and while one’s own container is made', async () => {
    const lot = open()
    let started: (value: { exit: Promise<void> }) => void = () => undefined
    const starting = lot.first(
      shape('a'),
      image,
      () =>
        new Promise<{ exit: Promise<void> }>(resolve => {
          started = resolve
        }),
    )
    lot.use(shape('b'), image, new Promise(() => undefined))
    await jest.advanceTimersByTimeAsync(10_000)
    expect(made).toEqual([])
    started({ exit: new Promise(() => undefined) })
    await starting
    await jest.advanceTimersByTimeAsync(100)
    expect(made).toEqual([])
    await jest.advanceTimersByTimeAsync(200)
    expect(made.toSorted()).toEqual(['a', 'b'])
  })

  it('has as many of a shape as ran at once, up to its budget', async () => {
    const lot = open({ memoryBytes: 2 * 8.5 * 2 ** 20 })
    const never = new Promise(() => undefined)
    for (let count = 0; count < 5; count += 1) lot.use(shape('a'), image, never)
    await jest.advanceTimersByTimeAsync(2000)
    expect(made).toEqual(['a', 'a'])
  })

  it('gives up what was used least recently for what ran last', async () => {
    const lot = open({ max: 2 })
    for (const reference of ['a', 'b', 'a', 'c']) await ran(lot, reference)
    expect(
      lot
        .status()
        .parked.map(one => one.image)
        .toSorted(),
    ).toEqual(['a', 'c'])
    expect(released).toEqual(['b'])
  })

  it('gives up what has waited for too long, and does not make it again', async () => {
    const lot = open()
    await ran(lot, 'a')
    await jest.advanceTimersByTimeAsync(61_000)
    await lot.prune()
    await jest.advanceTimersByTimeAsync(10_000)
    expect(lot.status().parked).toEqual([])
    expect(made).toEqual(['a'])
  })

  it('leaves a shape that can’t be parked alone for a while, and goes on with others', async () => {
    const lot = open()
    const parking = park
    park = (one, info) => {
      if (one.reference !== 'bad') return parking(one, info)
      made.push('bad')
      return Promise.reject(new Error('no shell'))
    }
    await ran(lot, 'bad')
    await ran(lot, 'bad')
    await ran(lot, 'good')
    expect(made).toEqual(['bad', 'good'])
  })

  it('takes no room that a task may need', async () => {
    hasRoom = false
    const lot = open()
    await ran(lot, 'a')
    expect(made).toEqual([])
  })

  it('gives up everything at its end, and makes nothing more', async () => {
    const lot = open()
    await ran(lot, 'a')
    await lot.release()
    expect(released).toEqual(['a'])
    await ran(lot, 'b')
    expect(made).toEqual(['a'])
  })
})
