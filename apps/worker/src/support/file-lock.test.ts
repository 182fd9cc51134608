import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { sweepLocks, withFileLock } from './file-lock.js'
import { hostId, newWorkerId } from './identity.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-lock-'))
})
afterEach(() => rm(folder, { recursive: true }))

const here = () => ({ worker: newWorkerId(), host: hostId() })
const never = new AbortController().signal
const file = () => join(folder, 'a.lock')

/** A lock as somebody left it who can't remove it any more. */
async function leave(owner: { worker: string; host: string }, silentMs = 0): Promise<void> {
  await writeFile(file(), JSON.stringify({ ...owner, token: 'theirs' }))
  const at = new Date(Date.now() - silentMs)
  await utimes(file(), at, at)
}

test('lets one at a time work, and leaves nothing', async () => {
  let inside = 0
  let most = 0
  const work = async () => {
    inside += 1
    most = Math.max(most, inside)
    await new Promise(resolve => setImmediate(resolve))
    inside -= 1
    return 'done'
  }
  const all = await Promise.all(Array.from({ length: 12 }, () => withFileLock(file(), here(), never, work)))
  expect(all).toEqual(Array.from({ length: 12 }, () => 'done'))
  expect(most).toBe(1)
  expect(await readdir(folder)).toEqual([])
})

test('is given back when the work throws', async () => {
  const failing = withFileLock(file(), here(), never, () => Promise.reject(new Error('no')))
  await expect(failing).rejects.toThrow('no')
  expect(await withFileLock(file(), here(), never, async () => 1)).toBe(1)
})

test('is taken over from a process that is gone, by one only', async () => {
  await leave({ worker: 'w-999999999-1-dead', host: hostId() })
  let inside = 0
  const work = async () => {
    inside += 1
    expect(inside).toBe(1)
    await new Promise(resolve => setImmediate(resolve))
    inside -= 1
  }
  await Promise.all(Array.from({ length: 8 }, () => withFileLock(file(), here(), never, work)))
  expect(await readdir(folder)).toEqual([])
})

test('what dead processes left is swept, and nothing else', async () => {
  const dead = { worker: 'w-999999999-1-dead', host: hostId() }
  await leave(dead)
  await writeFile(join(folder, `b.lock.${dead.host}~${dead.worker}~draft`), '')
  await writeFile(join(folder, `e.lock.another~${dead.worker}~draft`), '')
  await writeFile(join(folder, 'c.lock'), JSON.stringify({ ...here(), token: 'living' }))
  await writeFile(join(folder, 'd.lock'), JSON.stringify({ ...dead, host: 'another', token: 'far' }))
  await sweepLocks(folder, here())
  expect((await readdir(folder)).toSorted()).toEqual([
    'c.lock',
    'd.lock',
    `e.lock.another~${dead.worker}~draft`,
  ])
})

test('is taken over from another host after a minute of silence, not before', async () => {
  await leave({ worker: 'w-1-1-elsewhere', host: 'another' }, 30_000)
  const stop = new AbortController()
  const waiting = withFileLock(file(), here(), stop.signal, async () => 'taken')
  stop.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  await leave({ worker: 'w-1-1-elsewhere', host: 'another' }, 90_000)
  expect(await withFileLock(file(), here(), never, async () => 'taken')).toBe('taken')
})
