import { describe, expect, it } from '@jest/globals'
import { eventually } from './eventually.js'

describe('eventually', () => {
  it('gives the first truthy answer', async () => {
    let asked = 0
    expect(await eventually(() => (asked++ < 3 ? null : asked), { every: 1 })).toBe(4)
  })

  it('takes an error for "not yet"', async () => {
    let asked = 0
    const condition = async () => {
      if (asked++ < 2) throw new Error('early')
      return 'there'
    }
    expect(await eventually(condition, { every: 1 })).toBe('there')
  })

  it('says what came last', async () => {
    await expect(eventually(() => 0, { within: 5, every: 1, what: 'the job' })).rejects.toThrow(
      'the job did not come within 5 ms; the last answer was 0',
    )
    const broken = () => Promise.reject(new Error('no'))
    await expect(eventually(broken, { within: 5, every: 1 })).rejects.toThrow(/at last it threw Error: no/)
  })
})
