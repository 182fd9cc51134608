import { homedir } from 'node:os'
import { describe, expect, test } from '@jest/globals'
import { isRoot, which } from '../src/environment.js'
import { dataDirFrom, SetupError } from '../src/index.js'

describe('the data folder', () => {
  test('is what AGIRUNNER_DATA says, made absolute', () => {
    expect(dataDirFrom({ AGIRUNNER_DATA: '/srv/runner' })).toBe('/srv/runner')
    expect(dataDirFrom({ AGIRUNNER_DATA: 'data' })).toBe(`${process.cwd()}/data`)
  })

  test('is /var/lib/agirunner for root, else in the XDG state folder; a relative one does not count', () => {
    const forOthers = [
      '/x/agirunner',
      '/home/a/.local/state/agirunner',
      `${homedir()}/.local/state/agirunner`,
    ]
    const environments = [{ XDG_STATE_HOME: '/x' }, { XDG_STATE_HOME: 'x', HOME: '/home/a' }, {}]
    const expected = isRoot() ? environments.map(() => '/var/lib/agirunner') : forOthers
    expect(environments.map(dataDirFrom)).toEqual(expected)
  })
})

test('a failure reads what; why; what to do, with details below', () => {
  const error = new SetupError('redis.missing', {
    what: 'no Redis',
    why: 'none',
    fix: 'install it',
    details: 'a\nb\n',
  })
  expect(error.message).toBe('no Redis; none; install it\n  | a\n  | b')
  expect(error).toMatchObject({ code: 'redis.missing', name: 'SetupError' })
})

test('a program is found on the PATH only, unless the system folders are asked for', () => {
  expect(which('sh', { PATH: '/nowhere:/bin' })).toBe('/bin/sh')
  expect(which('sh', { PATH: '' })).toBeNull()
  expect(which('etc', { PATH: '/' })).toBeNull()
})
