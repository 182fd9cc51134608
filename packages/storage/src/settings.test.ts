import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { attemptFolder, expiryKey, readExpiryKey } from './keys.js'
import { StorageConfigError, storageOptions, storageSettings } from './settings.js'

const KEYS = { AWS_ACCESS_KEY_ID: 'AKIA', AWS_SECRET_ACCESS_KEY: 'very-secret' }
const read = (env: Record<string, string>) => storageSettings(storageOptions(env))

describe('the settings of the storage', () => {
  it.each([{}, { AGIRUNNER_STORAGE: 'file' }, KEYS])('are the disk where nothing else is said: %p', env => {
    expect(read(env)).toBeNull()
  })

  it('are a bucket with a prefix, and what goes without saying', () => {
    expect(read({ AGIRUNNER_STORAGE: 's3://left/by/tasks' })).toEqual({
      bucket: 'left',
      prefix: 'by/tasks/',
      endpoint: null,
      region: 'us-east-1',
      pathStyle: false,
      credentials: null,
    })
  })

  it('are what the variables say', () => {
    const settings = read({
      ...KEYS,
      AGIRUNNER_STORAGE: 's3://left',
      AGIRUNNER_S3_ENDPOINT: 'http://127.0.0.1:9000',
      AWS_REGION: 'eu-west-1',
    })
    expect(settings).toMatchObject({ prefix: '', region: 'eu-west-1', pathStyle: true })
    expect(settings?.credentials?.reveal().secretAccessKey).toBe('very-secret')
  })

  it('show no secret, however they are printed', () => {
    const settings = read({ ...KEYS, AGIRUNNER_STORAGE: 's3://left' })
    const shown = [
      inspect(settings, { depth: 9, showHidden: true }),
      JSON.stringify(settings),
      String(settings?.credentials),
    ]
    for (const text of shown) expect(text).not.toContain('very-secret')
  })

  it.each([
    [{ AGIRUNNER_STORAGE: 'https://x' }, /AGIRUNNER_STORAGE: must be/],
    [{ AGIRUNNER_STORAGE: 's3://Bad_Name' }, /"Bad_Name" can't be a bucket's name/],
    [{ AGIRUNNER_STORAGE: 's3://left/../x' }, /a prefix may hold/],
    [
      { AGIRUNNER_STORAGE: 's3://left', AGIRUNNER_S3_ENDPOINT: 'http://user:pw@host' },
      /AGIRUNNER_S3_ENDPOINT/,
    ],
    [{ AGIRUNNER_STORAGE: 's3://left', AGIRUNNER_S3_ENDPOINT: 'http://host/path' }, /AGIRUNNER_S3_ENDPOINT/],
    [{ AGIRUNNER_STORAGE: 's3://left', AGIRUNNER_S3_REGION: 'a b' }, /AGIRUNNER_S3_REGION/],
    [{ AGIRUNNER_S3_PATH_STYLE: 'maybe' }, /AGIRUNNER_S3_PATH_STYLE/],
    [{ AGIRUNNER_STORAGE: 's3://left', AWS_ACCESS_KEY_ID: 'AKIA' }, /one is set without the other/],
  ])('are refused: %p', (env, problem) => {
    const error = (() => {
      try {
        return read(env as Record<string, string>)
      } catch (failure) {
        return failure
      }
    })()
    expect(error).toBeInstanceOf(StorageConfigError)
    expect((error as Error).message).toMatch(problem)
    expect((error as Error).message).not.toContain('pw')
  })
})

describe('the marker of an expiry', () => {
  const folder = attemptFolder({ tenantId: 'acme', taskId: 't-1', fence: 17, nonce: '0123abcd' })
  const at = new Date('2026-01-02T03:04:05.678Z')

  it('says what goes and when', () => {
    for (const unless of ['nothing', 'named'] as const) {
      const key = expiryKey({ at, unless, folder })
      expect(readExpiryKey(key)).toEqual({ at, unless, tenantId: 'acme', taskId: 't-1', folder })
    }
  })

  it.each([
    '_expiries/2026-01-02T03:04:05.678Z/nothing/acme/t-1/17',
    '_expiries/2026-01-02T03:04:05.678Z/nothing/acme/17-0123abcd',
    '_expiries/2026-01-02T03:04:05.678Z/nothing/acme/../17-0123abcd',
    '_expiries/soon/nothing/acme/t-1/17-0123abcd',
    '_expiries/2026-01-02T03:04:05.678Z/never/acme/t-1/17-0123abcd',
    'acme/2026-01-02T03:04:05.678Z/nothing/acme/t-1/17-0123abcd',
  ])('is not %s', key => {
    expect(readExpiryKey(key)).toBeNull()
  })
})
