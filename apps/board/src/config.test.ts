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
    })
    expect(readConfig({ REDIS_URL, AGIRUNNER_BOARD_PASSWORD: '' }).password).toBeNull()
  })

  it('names every problem and no value', () => {
    const env = { AGIRUNNER_BOARD_PORT: '70000', AGIRUNNER_BOARD_PASSWORD: 'short', AGIRUNNER_QUEUE: 'a:b' }
    const message =
      /REDIS_URL: [\s\S]*AGIRUNNER_QUEUE: [\s\S]*AGIRUNNER_BOARD_PORT: [\s\S]*AGIRUNNER_BOARD_PASSWORD: must have/
    expect(() => readConfig(env)).toThrow(message)
    expect(() => readConfig(env)).not.toThrow(/short/)
  })
})
