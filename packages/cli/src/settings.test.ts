import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { engineEnvOf, readSettings, redisUrlOf, storageOf, wholeNumber } from './settings.js'
import { claimUp, isUp, readUp, removeUp, type UpRecord, writeUp } from './up/up-file.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agirunner-cli-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const record: UpRecord = {
  version: 1,
  pid: 1,
  redisUrl: 'redis://:secret@127.0.0.1:1',
  dockerHost: 'unix:///run/x.sock',
  queue: 'of-up',
  worker: { pid: 2, id: 'w' },
  board: { pid: 3, url: 'http://127.0.0.1:4/', user: 'admin', password: 'p' },
}

describe('settings', () => {
  it('name the bucket by the variables that workers read, and refuse what can’t be one', () => {
    const bucket = { AGIRUNNER_DATA: folder, AGIRUNNER_STORAGE: 's3://left/runs', AWS_REGION: 'eu-west-1' }
    expect(storageOf(readSettings(bucket))).toMatchObject({ url: 's3://left/runs', region: 'eu-west-1' })
    const wrong = readSettings({ ...bucket, AGIRUNNER_STORAGE: 'ftp://left' })
    expect(() => storageOf(wrong)).toThrow(
      /^the storage can't be used; AGIRUNNER_STORAGE: must be .*; correct it$/,
    )
  })

  it('come from the environment, else from up.json, else from the defaults', () => {
    expect(readSettings({ AGIRUNNER_DATA: folder }).queue).toBe('agirunner')
    writeUp(folder, record)
    const settings = readSettings({ AGIRUNNER_DATA: folder })
    expect([redisUrlOf(settings), settings.queue]).toEqual([record.redisUrl, 'of-up'])
    expect(engineEnvOf(settings).DOCKER_HOST).toBe(record.dockerHost)
    const own = readSettings({ AGIRUNNER_DATA: folder, REDIS_URL: 'redis://own', DOCKER_HOST: 'tcp://own:1' })
    expect([redisUrlOf(own), own.queue, engineEnvOf(own).DOCKER_HOST]).toEqual([
      'redis://own',
      'agirunner',
      'tcp://own:1',
    ])
    expect(readSettings({ AGIRUNNER_DATA: folder, AGIRUNNER_QUEUE: 'a' }).queue).toBe('a')
    expect(readSettings({ AGIRUNNER_DATA: folder, AGIRUNNER_QUEUE: 'a' }, 'b').queue).toBe('b')
  })

  it('refuse what can not be used, and say why', () => {
    const settings = readSettings({ AGIRUNNER_DATA: folder })
    expect(() => redisUrlOf(settings)).toThrow(
      `REDIS_URL is not set and ${folder}/up.json is not there; run \`agirunner up\``,
    )
    expect(() => redisUrlOf({ ...settings, env: { REDIS_URL: 'localhost' } })).toThrow(
      "REDIS_URL can't be used",
    )
    expect(() => readSettings({ AGIRUNNER_NO_INSTALL: 'maybe' })).toThrow(
      'AGIRUNNER_NO_INSTALL can\'t be "maybe"',
    )
    expect(() => readSettings({}, 'a:b')).toThrow('--queue can\'t be "a:b"')
    expect(() => wholeNumber('1.5', '--port', 0, 9)).toThrow('it is a whole number from 0 to 9')
    expect(wholeNumber('9', '--port', 0, 9)).toBe(9)
  })
})

describe('up.json', () => {
  it('is readable by its owner only, and gone when removed', () => {
    writeUp(folder, record)
    expect(readUp(folder)).toEqual(record)
    expect(statSync(join(folder, 'up.json')).mode & 0o777).toBe(0o600)
    removeUp(folder)
    expect(readUp(folder)).toBeNull()
  })
})

describe('claimUp', () => {
  it('lets only one live process have a data folder', () => {
    const release = claimUp(folder)
    expect(isUp(folder)).toBe(true)
    expect(() => claimUp(folder)).toThrow(
      `agirunner is up already; process ${process.pid} uses the data folder`,
    )
    release()
    expect(isUp(folder)).toBe(false)
    claimUp(folder)()
  })

  it('takes over from a dead one, and from a process that only has its number', () => {
    const startTime = '1'
    for (const pid of [2 ** 22 + 1, process.pid]) {
      writeFileSync(join(folder, 'up.lock'), JSON.stringify({ pid, startTime, token: 'old' }))
      expect(isUp(folder)).toBe(false)
      claimUp(folder)()
    }
  })
})
