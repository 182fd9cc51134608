import { describe, expect, it } from '@jest/globals'
import { REDACTED, redact, redactText } from './redact.js'

/** Made up here, and not written down whole, so that no scanner takes this file for a leak. */
const secrets = {
  github: `ghp_${'a1B2'.repeat(9)}`,
  githubFine: `github_pat_${'a1B2_'.repeat(9)}`,
  githubApp: `gho_${'a1B2'.repeat(9)}`,
  gitlab: `glpat-${'a1B2'.repeat(5)}`,
  aws: `AKIA${'ABCD'.repeat(4)}`,
  slack: `xoxb-${'1234-'.repeat(5)}abc`,
  npm: `npm_${'a1B2'.repeat(9)}`,
  jwt: `eyJ${'a1B2'.repeat(5)}.eyJ${'a1B2'.repeat(9)}.${'a1B2'.repeat(9)}`,
  pem: `-----BEGIN RSA PRIVATE KEY-----\n${'a1B2'.repeat(16)}\n-----END RSA PRIVATE KEY-----`,
  pemCut: `-----BEGIN PRIVATE KEY-----\n${'a1B2'.repeat(16)}`,
}

describe('redactText', () => {
  it.each(Object.entries(secrets))('hides a %s secret wherever it stands', (_name, secret) => {
    expect(redactText(`before ${secret}`)).toBe(`before ${REDACTED}`)
    expect(redactText(`x="${secret}"`)).not.toContain(secret.slice(0, 12))
  })

  it.each([
    ['https://me:hunter2@git.example.com/x', `https://${REDACTED}@git.example.com/x`],
    ["clone 'https://hunter2@git.example.com/x'", `clone 'https://${REDACTED}@git.example.com/x'`],
    ['redis://:hunter2@10.0.0.1:6379', `redis://${REDACTED}@10.0.0.1:6379`],
    ['Authorization: Bearer hunter2hunter2', `Authorization: Bearer ${REDACTED}`],
    ['authorization: basic aHVudGVyMg==', `authorization: basic ${REDACTED}`],
    ['NPM_TOKEN=hunter2 npm ci', `NPM_TOKEN=${REDACTED} npm ci`],
    ['{"password":"hunter2"}', `{"password":"${REDACTED}"}`],
    ['db_password = "hunter2"', `db_password = "${REDACTED}"`],
  ])('hides it in %s', (text, shown) => {
    expect(redactText(text)).toBe(shown)
  })

  it.each([
    'secret.unavailable: NPM_TOKEN is not in the environment of the worker',
    'https://git.example.com/x/y?z=1 and me@example.com',
    'commit 2f1e8c5d3b7a9e0f4c6d8b1a3e5f7092d4c6b8a1',
    '{"secretRef":"env:NPM_TOKEN"}',
    'at Object.<anonymous> (node_modules/@scope/pkg/index.js:10:5)',
  ])('leaves %s alone', text => {
    expect(redactText(text)).toBe(text)
  })

  it('takes time in proportion to the text, whatever it is', () => {
    const hostile = [
      'a.',
      'a-',
      'token',
      'bearer ',
      'eyJaaaaaaaa.',
      '://',
      'a://',
      '-----BEGIN PRIVATE KEY-----',
      'token=',
      ' ',
    ]
    for (const part of hostile) {
      const start = performance.now()
      redactText(part.repeat(Math.ceil(1_000_000 / part.length)))
      // Some tens of milliseconds; were it quadratic, minutes.
      const ms = performance.now() - start
      expect(ms < 5000 ? 'fast' : `${part}: ${ms} ms`).toBe('fast')
    }
  })
})

describe('redact', () => {
  it('hides what is named like a secret, at any depth', () => {
    const shown = redact({
      env: { API_KEY: 'abc', CI: 'true', n: 1 },
      list: [{ dbPassword: ['x', { y: 'z' }] }],
      tokens: 5,
    })
    expect(shown).toEqual({
      env: { API_KEY: REDACTED, CI: 'true', n: 1 },
      list: [{ dbPassword: [REDACTED, { y: REDACTED }] }],
      tokens: REDACTED,
    })
  })

  it('leaves references to secrets, and nothing that only looks like one', () => {
    const task = {
      credentials: { username: 'x-access-token', password: { secretRef: 'env:GIT_TOKEN' } },
      secrets: { NPM_TOKEN: { secretRef: 'file:/run/x', as: 'env' }, MORE: { secretRef: 'hunter2' } },
    }
    expect(redact(task)).toEqual({
      credentials: { username: REDACTED, password: { secretRef: 'env:GIT_TOKEN' } },
      secrets: { NPM_TOKEN: { secretRef: 'file:/run/x', as: 'env' }, MORE: { secretRef: REDACTED } },
    })
  })

  it('hides secrets in names, and in what toJSON makes', () => {
    const value = {
      [secrets.github]: 1,
      job: { toJSON: () => ({ reason: `failed with ${secrets.gitlab}` }) },
    }
    expect(JSON.stringify(redact(value))).toBe(`{"${REDACTED}":1,"job":{"reason":"failed with ${REDACTED}"}}`)
  })
})
