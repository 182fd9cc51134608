import { describe, expect, it } from '@jest/globals'
import { DummyEngine } from '../engine/dummy/dummy-engine.js'
import { limitCapabilities, refuseUnenforced } from './limits-capability.js'

describe('an engine that can’t enforce a limit', () => {
  it('runs no task, and its worker says why', async () => {
    const info = { ...(await new DummyEngine().info()), unenforced: ['memory', 'swap'] }
    expect(() => refuseUnenforced(info)).toThrow("can't limit memory:")
    expect(limitCapabilities(info)[0]).toMatchObject({ name: 'limits', state: 'missing' })
  })

  it('of swap alone runs them, and its worker says so', async () => {
    const info = { ...(await new DummyEngine().info()), unenforced: ['swap'] }
    expect(() => refuseUnenforced(info)).not.toThrow()
    expect(limitCapabilities(info)[0]).toMatchObject({ name: 'limits', state: 'weaker' })
  })

  it('is no other', async () => {
    const info = await new DummyEngine().info()
    expect(() => refuseUnenforced(info)).not.toThrow()
    expect(limitCapabilities(info)).toMatchObject([
      { name: 'limits', state: 'enforced' },
      { name: 'limits per user', state: 'weaker' },
    ])
  })
})
