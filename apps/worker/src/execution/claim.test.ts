import { appendFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type Claim, dropClaim, noteState, readClaim, writeClaim } from './claim.js'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'claim-'))
})
afterEach(() => rmSync(root, { recursive: true }))

const stateOf = (phase: Claim['state']['phase']): Claim['state'] => ({ phase, since: 5, durations: {} })
const claim = { version: 1, taskId: 't', state: stateOf('start') } as Claim

describe('a claim', () => {
  it('is what was written, and where the attempt has come to since', () => {
    writeClaim(root, claim)
    expect(readClaim(root)).toEqual(claim)
    for (const phase of ['bootstrap', 'run'] as const) noteState(root, stateOf(phase))
    expect(readClaim(root)).toEqual({ ...claim, state: stateOf('run') })
  })

  it('is as it was before what its worker wrote as it died', () => {
    writeClaim(root, claim)
    noteState(root, stateOf('bootstrap'))
    appendFileSync(join(root, 'claim.json'), '{"phase":"ru')
    expect(readClaim(root)?.state.phase).toBe('bootstrap')
  })

  it('is not there any more once it was dropped, whatever is noted', async () => {
    writeClaim(root, claim)
    await dropClaim(root)
    noteState(root, stateOf('run'))
    expect(readClaim(root)).toBeNull()
    expect(existsSync(join(root, 'claim.json'))).toBe(false)
  })

  it('is none in a form that is not known', () => {
    writeClaim(root, { ...claim, version: 2 as 1 })
    expect(readClaim(root)).toBeNull()
  })
})
