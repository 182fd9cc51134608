import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from '@jest/globals'
import { dataFolder, readJson } from '../src/files.js'
import { withLock } from '../src/lock.js'
import { isAlive, ownProcess, startTimeOf } from '../src/processes.js'
import { recordedLog, temporaryFolders } from './support.js'

const newFolder = temporaryFolders()

/** @param {string} dataDir */
const lockFile = dataDir => join(dataFolder(dataDir, 'run'), 'x.lock')

test('only one holds it at a time, the others wait and say so, and nothing is left', async () => {
  const dataDir = newFolder()
  const { lines, log } = recordedLog()
  let inside = 0
  let most = 0
  const work = async () => {
    inside += 1
    most = Math.max(most, inside)
    await sleep(5)
    inside -= 1
  }
  await Promise.all([1, 2, 3].map(() => withLock({ dataDir, name: 'x', log }, work)))
  expect(most).toBe(1)
  expect(lines).toContain(`setup: x: waiting for another set-up (process ${process.pid}) to finish`)
  expect(readdirSync(join(dataDir, 'run'))).toEqual([])
})

test('it holds the process number and start time, for its owner alone to read, and is freed by a failure', async () => {
  const dataDir = newFolder()
  const failing = withLock({ dataDir, name: 'x', log: () => {} }, async () => {
    expect(readJson(lockFile(dataDir))).toMatchObject(ownProcess())
    expect(statSync(lockFile(dataDir)).mode & 0o777).toBe(0o600)
    throw new Error('inside')
  })
  await expect(failing).rejects.toThrow('inside')
  expect(existsSync(lockFile(dataDir))).toBe(false)
})

test('the lock of a dead process is taken over by exactly one of those who wait', async () => {
  const dataDir = newFolder()
  const child = spawn(process.execPath, ['-e', ''])
  await once(child, 'exit')
  writeFileSync(lockFile(dataDir), JSON.stringify({ pid: child.pid, startTime: '1', token: 'dead' }))
  let inside = 0
  const work = async () => {
    inside += 1
    expect(inside).toBe(1)
    await sleep(5)
    inside -= 1
  }
  await Promise.all([1, 2, 3, 4].map(() => withLock({ dataDir, name: 'x', log: () => {} }, work)))
  expect(readdirSync(join(dataDir, 'run'))).toEqual([])
})

test('a number that was given to another process does not keep a lock', async () => {
  const dataDir = newFolder()
  writeFileSync(lockFile(dataDir), JSON.stringify({ pid: process.pid, startTime: 'earlier', token: 't' }))
  await expect(withLock({ dataDir, name: 'x', log: () => {} }, async () => 'in')).resolves.toBe('in')
})

test('waiting ends with a failure that names the holder', async () => {
  const dataDir = newFolder()
  writeFileSync(lockFile(dataDir), JSON.stringify({ ...ownProcess(), token: 't' }))
  const waiting = withLock({ dataDir, name: 'x', log: () => {}, patienceMs: 1 }, async () => {})
  await expect(waiting).rejects.toMatchObject({
    code: 'lock.timeout',
    message: expect.stringContaining(`process ${process.pid} still holds ${lockFile(dataDir)}`),
  })
})

test('a process is alive only with its own start time', () => {
  expect(isAlive(ownProcess())).toBe(true)
  expect(isAlive({ pid: process.pid, startTime: '0' })).toBe(false)
  expect(startTimeOf(2 ** 22 + 1)).toBeNull()
})
