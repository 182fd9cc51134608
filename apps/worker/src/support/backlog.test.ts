import { describe, expect, it } from '@jest/globals'
import { Backlog } from './backlog.js'

function pending() {
  let done = () => {}
  const promise = new Promise<void>(resolve => {
    done = resolve
  })
  return { promise, done }
}

describe('a backlog', () => {
  it('lets nobody wait up to its bound, and who passes that until something is done', async () => {
    const backlog = new Backlog(1)
    const [first, second] = [pending(), pending()]
    await backlog.add(() => first.promise)
    let added = false
    const adding = backlog
      .add(() => second.promise)
      .then(() => {
        added = true
      })
    await Promise.resolve()
    expect(added).toBe(false)
    first.done()
    await adding
    second.done()
    await backlog.settled()
  })

  it('is settled when all of it is done, also what came meanwhile', async () => {
    const backlog = new Backlog(5)
    const [first, second] = [pending(), pending()]
    await backlog.add(() => first.promise)
    const settled = backlog.settled().then(() => 'settled')
    await backlog.add(() => second.promise)
    first.done()
    await expect(Promise.race([settled, Promise.resolve('owed')])).resolves.toBe('owed')
    second.done()
    await expect(settled).resolves.toBe('settled')
  })
})
