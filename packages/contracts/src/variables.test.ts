import { describe, expect, it } from '@jest/globals'
import { AGIRUNNER_VARIABLES, unknownVariables } from './variables.js'

describe('the variables of the runtime', () => {
  it('are each there once', () => {
    expect(new Set(AGIRUNNER_VARIABLES).size).toBe(AGIRUNNER_VARIABLES.length)
  })

  it('are known, and another gets the nearest name', () => {
    const known = Object.fromEntries(AGIRUNNER_VARIABLES.map(name => [name, 'x']))
    expect(unknownVariables({ ...known, AGIRUNNER_TASK_ID: 'y', OTHER: 'z' })).toEqual([])
    expect(unknownVariables({ AGIRUNNER_QUEU: 'x' })).toEqual([
      'AGIRUNNER_QUEU is no variable of the runtime; did you mean AGIRUNNER_QUEUE?',
    ])
  })
})
