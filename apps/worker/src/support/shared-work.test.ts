import { expect, test } from '@jest/globals'
import { type Share, SharedWork } from './shared-work.js'

const share = (signal = new AbortController().signal): Share => ({ signal, progress: () => undefined })

/** Work that ends when the test says so. */
function controlled() {
  const started: Share[] = []
  const ends: ((value: string) => void)[] = []
  const work = (given: Share) => {
    started.push(given)
    return new Promise<string>((resolve, reject) => {
      ends.push(resolve)
      given.signal.addEventListener('abort', () => reject(given.signal.reason as Error))
    })
  }
  return { work, started, ends }
}
const turn = () => new Promise(resolve => setImmediate(resolve))

test('callers at the same time share one piece of work, and all hear of its progress', async () => {
  const shared = new SharedWork<string>()
  const { work, started, ends } = controlled()
  const heard: unknown[] = []
  const all = [1, 2, 3].map(each =>
    shared.join('a', work, { ...share(), progress: data => heard.push([each, data.stage]) }),
  )
  started[0]?.progress({ stage: 'x' })
  ends[0]?.('done')
  expect(await Promise.all(all)).toEqual(['done', 'done', 'done'])
  expect(heard).toEqual([1, 2, 3].map(each => [each, 'x']))
  const again = shared.join('a', work, share())
  ends[1]?.('again')
  expect(await again).toBe('again')
})

test('one that leaves leaves the others alone; when all have left the work is given up', async () => {
  const shared = new SharedWork<string>()
  const { work, started, ends } = controlled()
  const [one, two] = [new AbortController(), new AbortController()]
  const all = [shared.join('a', work, share(one.signal)), shared.join('a', work, share(two.signal))]
  one.abort(new Error('one leaves'))
  await expect(all[0]).rejects.toThrow('one leaves')
  expect(started[0]?.signal.aborted).toBe(false)
  two.abort(new Error('two leaves'))
  await expect(all[1]).rejects.toThrow('two leaves')
  expect(started[0]?.signal.aborted).toBe(true)
  const later = shared.join('a', work, share())
  ends[1]?.('new')
  expect(await later).toBe('new')
})

test('a question is never answered by what began before it', async () => {
  const shared = new SharedWork<string>()
  const { work, started, ends } = controlled()
  const first = shared.ask('a', work, share())
  const later = [1, 2, 3].map(() => shared.ask('a', work, share()))
  await turn()
  expect(started).toHaveLength(1)
  ends[0]?.('old')
  expect(await first).toBe('old')
  await turn()
  expect(started).toHaveLength(2)
  const third = shared.ask('a', work, share())
  ends[1]?.('new')
  expect(await Promise.all(later)).toEqual(['new', 'new', 'new'])
  await turn()
  ends[2]?.('newer')
  expect(await third).toBe('newer')
  expect(started).toHaveLength(3)
})

test("a failure is everybody's, and forgotten afterwards", async () => {
  const shared = new SharedWork<string>()
  const failing = () => Promise.reject(new Error('no'))
  const all = [shared.ask('a', failing, share()), shared.ask('a', failing, share())]
  expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await shared.ask('a', async () => 'yes', share())).toBe('yes')
})
