import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import type { ContainerEngine, ImageInfo } from '../../engine/engine.js'
import { KnownImages } from './known-images.js'

type Watching = Parameters<ContainerEngine['watchImages']>[0]

let asked: string[]
let answer: (reference: string) => Promise<ImageInfo | null>
let watching: Watching[]
let broken: () => void
let known: KnownImages
beforeEach(() => {
  jest.useFakeTimers()
  asked = []
  watching = []
  answer = async () => ({ id: `sha256:${asked.length}` }) as ImageInfo
  const engine = {
    image: (reference: string) => {
      asked.push(reference)
      return answer(reference)
    },
    watchImages: (options: Watching) => {
      watching.push(options)
      return new Promise<void>(resolve => {
        broken = resolve
        options.signal.addEventListener('abort', () => resolve())
      })
    },
  }
  known = new KnownImages(engine as unknown as ContainerEngine)
})
afterEach(async () => {
  const released = known.release()
  await jest.runAllTimersAsync()
  await released
  jest.useRealTimers()
})

const idOf = async (reference = 'a') => (await known.image(reference))?.id

describe('known images', () => {
  it('are asked for each time until the engine listens, and then once', async () => {
    expect([await idOf(), await idOf()]).toEqual(['sha256:1', 'sha256:2'])
    watching[0]?.onListening()
    expect([await idOf(), await idOf(), await idOf('b')]).toEqual(['sha256:3', 'sha256:3', 'sha256:4'])
  })

  it('are asked for anew after each change, also one that came while they were asked for', async () => {
    watching[0]?.onListening()
    await idOf()
    watching[0]?.onChange()
    expect(await idOf()).toBe('sha256:2')
    known.forget()
    let answered = (_info: ImageInfo) => {}
    answer = () =>
      new Promise(resolve => {
        answered = resolve
      })
    const before = idOf()
    watching[0]?.onChange()
    answered({ id: 'sha256:old' } as ImageInfo)
    expect(await before).toBe('sha256:old')
    answer = async () => ({ id: 'sha256:new' }) as ImageInfo
    expect(await idOf()).toBe('sha256:new')
  })

  it('that are not there are asked for each time', async () => {
    watching[0]?.onListening()
    answer = async () => null
    expect([await idOf(), await idOf()]).toEqual([undefined, undefined])
    expect(asked).toHaveLength(2)
  })

  it('are asked for each time while the engine can’t be heard, until it is again', async () => {
    watching[0]?.onListening()
    await idOf()
    broken()
    await jest.advanceTimersByTimeAsync(0)
    expect([await idOf(), await idOf()]).toEqual(['sha256:2', 'sha256:3'])
    await jest.advanceTimersByTimeAsync(1000)
    watching[1]?.onListening()
    expect([await idOf(), await idOf()]).toEqual(['sha256:4', 'sha256:4'])
  })
})
