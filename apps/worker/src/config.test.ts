import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AGIRUNNER_VARIABLES } from '@agirunner/contracts'
import { afterAll, describe, expect, it } from '@jest/globals'
import { ConfigError, readConfig, WORKER_VARIABLES } from './config.js'

const env = { REDIS_URL: 'redis://127.0.0.1:1' }

describe('the configuration', () => {
  it('is documented in the README, all of it', () => {
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
    const documented = [...readme.matchAll(/`(AGIRUNNER_[A-Z0-9_]+)`/g)].map(([, name]) => name)
    expect(new Set(documented)).toEqual(new Set(AGIRUNNER_VARIABLES))
    const own = WORKER_VARIABLES.filter(name => name.startsWith('AGIRUNNER_'))
    expect(AGIRUNNER_VARIABLES).toEqual(expect.arrayContaining(own))
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
      AGIRUNNER_MAX_CPU: 'all',
      AGIRUNNER_DEFAULT_MEMORY: '1m',
      AGIRUNNER_MAX_PIDS: '2.5',
      AGIRUNNER_DEFAULT_TIMEOUT: '-1',
      AGIRUNNER_STORAGE: 's3://No_Bucket',
      AGIRUNNER_S3_ENDPOINT: 'nowhere',
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

describe('the limits of tasks', () => {
  it('are bounded where nothing is set, and read with their units', () => {
    const rule = (variable: string, more: NodeJS.ProcessEnv = {}) =>
      readConfig({ ...env, ...more }).limits.find(one => one.variable === variable)
    expect(rule('TIMEOUT')).toMatchObject({ ceiling: 86_400, fallback: null })
    expect(rule('MEMORY')).toMatchObject({ ceiling: null, fallback: null })
    const set = { AGIRUNNER_MAX_MEMORY: '1.5Gi', AGIRUNNER_DEFAULT_MEMORY: '512m' }
    expect(rule('MEMORY', set)).toMatchObject({ ceiling: 1.5 * 2 ** 30, fallback: 2 ** 29 })
  })
})

describe('folders of the host', () => {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'agirunner-config-')))
  for (const name of ['code', 'more', 'data/slots', 'secrets/keys'])
    mkdirSync(join(base, name), { recursive: true })
  symlinkSync(join(base, 'code'), join(base, 'alias'))
  symlinkSync('/', join(base, 'everything'))
  symlinkSync(join(base, 'data'), join(base, 'data-alias'))
  writeFileSync(join(base, 'file'), '')
  afterAll(() => rmSync(base, { recursive: true }))

  const read = (roots: string, more: NodeJS.ProcessEnv = {}) =>
    readConfig({
      ...env,
      AGIRUNNER_DATA: join(base, 'data'),
      AGIRUNNER_SECRET_ROOT: join(base, 'secrets'),
      AGIRUNNER_HOST_ROOTS: roots,
      ...more,
    }).hostRoots

  it('are none by default', () => {
    expect(readConfig(env).hostRoots).toEqual([])
    expect(read('')).toEqual([])
  })

  it.each([':', ','])('are separated by %s, and known by both their names', separator => {
    expect(read([join(base, 'alias'), join(base, 'more')].join(separator))).toEqual([
      { path: join(base, 'alias'), real: join(base, 'code') },
      { path: join(base, 'more'), real: join(base, 'more') },
    ])
  })

  it.each([
    ['relative', 'code', 'must be an absolute path'],
    ['with an empty entry', `${base}/code:`, 'must be an absolute path'],
    ['with ..', `${base}/code/../more`, 'must not hold'],
    ['not there', `${base}/nothing`, 'ENOENT'],
    ['a file', `${base}/file`, 'is no folder'],
    ['the whole machine', '/', 'is the whole machine'],
    ['the whole machine by a link', `${base}/everything`, 'is the whole machine'],
    ['the kernel', '/proc/self', "is the kernel's"],
    ['the data folder', `${base}/data`, 'apart from AGIRUNNER_DATA'],
    ['the data folder by a link', `${base}/data-alias`, 'apart from AGIRUNNER_DATA'],
    ['what holds the data folder', base, 'apart from AGIRUNNER_DATA'],
    ['inside the data folder', `${base}/data/slots`, 'apart from AGIRUNNER_DATA'],
    ['inside the secrets', `${base}/secrets/keys`, 'apart from AGIRUNNER_SECRET_ROOT'],
  ])('can not be %s: the worker does not start', (_name, roots, why) => {
    expect(() => read(roots)).toThrow(ConfigError)
    expect(() => read(roots)).toThrow(`AGIRUNNER_HOST_ROOTS: `)
    expect(() => read(roots)).toThrow(why)
  })

  it('can not hold a data folder that is not there yet', () => {
    expect(() => read(join(base, 'code'), { AGIRUNNER_DATA: join(base, 'code/new/data') })).toThrow(
      'AGIRUNNER_DATA',
    )
    expect(() => read(join(base, 'code'), { AGIRUNNER_DATA: join(base, 'alias/new') })).toThrow(
      'AGIRUNNER_DATA',
    )
  })

  it('are told with every other problem', () => {
    expect(() => read('/', { REDIS_URL: 'nonsense' })).toThrow(/REDIS_URL.*\n.*AGIRUNNER_HOST_ROOTS/)
  })
})
