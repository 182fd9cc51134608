import { describe, expect, it } from '@jest/globals'
import { findSecret, secretForms } from './secret-search.js'

const SECRET = 't0k"en\\/+% \u00e9~?>1f3870be274f6c49b3e31a0c6728957f'

describe('findSecret', () => {
  it('finds every form that it names, and nothing where there is none', () => {
    for (const { name, text } of secretForms(SECRET)) {
      expect(findSecret(`before ${text} behind`, SECRET)).toContain(name)
    }
    expect(findSecret(`before ${SECRET.slice(0, -1)} behind`, SECRET)).toEqual([])
  })

  it('finds it where others have encoded it together with something else', () => {
    for (const before of ['', 'a', 'ab', 'abc', 'x-access-token:', 'someone:']) {
      for (const behind of ['', '\n', '@h', 'abc']) {
        const whole = Buffer.from(before + SECRET + behind)
        const encoded = [
          whole.toString('base64'),
          whole.toString('base64url'),
          whole.toString('hex'),
          JSON.stringify({ header: whole.toString() }),
          JSON.stringify(JSON.stringify([whole.toString()])),
          encodeURIComponent(whole.toString()),
          new URLSearchParams({ value: whole.toString() }).toString(),
        ]
        expect(encoded.filter(text => findSecret(text, SECRET).length === 0)).toEqual([])
      }
    }
  })
})
