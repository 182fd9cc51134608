import { readFileSync } from 'node:fs'
import { describe, expect, it } from '@jest/globals'
import { ConfigError, KNOWN_VARIABLES, readConfig } from './config.js'

const env = { REDIS_URL: 'redis://127.0.0.1:1' }

describe('the configuration', () => {
  it('is documented in the README, all of it', () => {
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
    const forTests = /^AGIRUNNER_TEST_/
    const shown = KNOWN_VARIABLES.filter(name => name.startsWith('AGIRUNNER_') && !forTests.test(name))
    const documented = [...readme.matchAll(/`(AGIRUNNER_[A-Z_]+)`/g)].map(([, name]) => name)
    expect(new Set(documented)).toEqual(new Set(shown))
  })

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
