import { describe, expect, it } from '@jest/globals'
import { ConfigError, readConfig } from './config.js'

const env = { REDIS_URL: 'redis://127.0.0.1:1' }

describe('the configuration', () => {
  it('needs only the address of Redis', () => {
    expect(readConfig(env)).toMatchObject({
      queue: 'agirunner',
      gitAllowPrivate: false,
      allowRootProfile: true,
      warnings: [],
    })
  })

  it.each(['1', 'true', 'yes'])('takes %s for true', value => {
    expect(readConfig({ ...env, AGIRUNNER_GIT_ALLOW_PRIVATE: value }).gitAllowPrivate).toBe(true)
  })

  it('names every bad value', () => {
    const bad = {
      AGIRUNNER_GIT_ALLOW_PRIVATE: 'maybe',
      AGIRUNNER_CONCURRENCY: '0',
      AGIRUNNER_LOG_CEILING: 'much',
    }
    const read = () => readConfig(bad)
    expect(read).toThrow(ConfigError)
    for (const name of ['REDIS_URL', ...Object.keys(bad)]) expect(read).toThrow(name)
  })

  it('warns of an unknown variable with the nearest name', () => {
    expect(readConfig({ ...env, AGIRUNNER_QUEU: 'x' }).warnings).toEqual([
      expect.stringContaining('did you mean AGIRUNNER_QUEUE'),
    ])
  })
})
