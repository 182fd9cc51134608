import { describe, expect, it } from '@jest/globals'
import { readConfig } from './config.js'

const REDIS_URL = 'redis://127.0.0.1:6379'

describe('readConfig', () => {
  it('is bound to loopback and makes a password unless told otherwise', () => {
    expect(readConfig({ REDIS_URL })).toEqual({
      redisUrl: REDIS_URL,
      queue: 'agirunner',
      host: '127.0.0.1',
      port: 3700,
      password: null,
      viewerPassword: null,
      base: '',
      storage: expect.any(Object),
    })
    expect(readConfig({ REDIS_URL, AGIRUNNER_BOARD_PASSWORD: '' }).password).toBeNull()
  })

  it.each([
    ['', ''],
    ['/', ''],
    ['/agirunner', '/agirunner'],
    ['/tools/agirunner/', '/tools/agirunner'],
  ])('takes %j for the path it lives under', (AGIRUNNER_BOARD_BASE, base) => {
    expect(readConfig({ REDIS_URL, AGIRUNNER_BOARD_BASE }).base).toBe(base)
  })

  it.each([
    'agirunner',
    '//evil.example',
    '/..',
    '/a/../b',
    '/a b',
    '/a"b',
    '/queues',
    '/api/x',
    'https://x',
  ])('takes %j for no path', AGIRUNNER_BOARD_BASE => {
    expect(() => readConfig({ REDIS_URL, AGIRUNNER_BOARD_BASE })).toThrow(/AGIRUNNER_BOARD_BASE: must/)
  })

  it('refuses one password for both roles, and a storage that is none', () => {
    const both = { AGIRUNNER_BOARD_PASSWORD: 'the same one', AGIRUNNER_BOARD_VIEWER_PASSWORD: 'the same one' }
    expect(() => readConfig({ REDIS_URL, ...both })).toThrow(
      /AGIRUNNER_BOARD_VIEWER_PASSWORD: must be another/,
    )
    expect(() => readConfig({ REDIS_URL, AGIRUNNER_S3_PATH_STYLE: 'x' })).toThrow(
      /AGIRUNNER_S3_PATH_STYLE: must/,
    )
  })

  it('names every problem and no value', () => {
    const env = { AGIRUNNER_BOARD_PORT: '70000', AGIRUNNER_BOARD_PASSWORD: 'short', AGIRUNNER_QUEUE: 'a:b' }
    const message =
      /REDIS_URL: [\s\S]*AGIRUNNER_QUEUE: [\s\S]*AGIRUNNER_BOARD_PORT: [\s\S]*AGIRUNNER_BOARD_PASSWORD: must have/
    expect(() => readConfig(env)).toThrow(message)
    expect(() => readConfig(env)).not.toThrow(/short/)
  })
})
