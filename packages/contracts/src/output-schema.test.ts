import { describe, expect, it } from '@jest/globals'
import { compileOutputSchema } from './output-schema.js'

describe('an output schema', () => {
  const schema = {
    type: 'object',
    required: ['verdict'],
    additionalProperties: false,
    properties: { verdict: { enum: ['pass', 'fail'] }, score: { type: 'number', minimum: 0 } },
  }

  it('finds nothing wrong with what it describes', () => {
    expect(compileOutputSchema(schema)({ verdict: 'pass', score: 1 })).toEqual([])
  })

  it('names everything that is wrong, where it is', () => {
    const problems = compileOutputSchema(schema)({ verdict: 'maybe', score: -1, more: true })
    expect(problems).toHaveLength(3)
    expect(problems).toEqual(
      expect.arrayContaining([
        'the value must NOT have additional properties: "more"',
        '/verdict must be equal to one of the allowed values: ["pass","fail"]',
        '/score must be >= 0',
      ]),
    )
  })

  it('says a bounded amount about any amount of trouble', () => {
    const many = Object.fromEntries(
      Array.from({ length: 5000 }, (_, index) => [`k${'x'.repeat(999)}${index}`, 1]),
    )
    const problems = compileOutputSchema(schema)(many)
    expect(problems).toHaveLength(20)
    expect(problems.join('').length).toBeLessThan(10_000)
  })

  it.each([
    ['2020-12 when it says nothing', {}, false],
    ['2020-12', { $schema: 'https://json-schema.org/draft/2020-12/schema' }, false],
    ['2019-09', { $schema: 'https://json-schema.org/draft/2019-09/schema' }, true],
    ['draft-07', { $schema: 'http://json-schema.org/draft-07/schema#' }, true],
  ])('is read as %s', (_name, dialect, itemsIsATuple) => {
    // `prefixItems` came with 2020-12; before, it is a keyword that nobody knows.
    const check = compileOutputSchema({ ...dialect, prefixItems: [{ type: 'string' }] })
    expect(check([1]).length === 0).toBe(itemsIsATuple)
  })

  it('checks formats', () => {
    const check = compileOutputSchema({ type: 'string', format: 'date-time' })
    expect(check('2026-11-23T00:00:00Z')).toEqual([])
    expect(check('yesterday')).toEqual(['the value must match format "date-time"'])
  })

  it.each([
    ['a keyword that is used wrongly', { type: 'objekt' }, /schema is invalid/],
    ['a pattern that is none', { pattern: '(' }, /regular expression|format "regex"/i],
    ['a dialect that nobody knows', { $schema: 'https://example.org/mine' }, /\$schema must be one of/],
    ['what would have to be fetched', { $ref: 'https://example.org/schema.json' }, /can't resolve reference/],
  ])('is refused for %s', (_name, broken, why) => {
    expect(() => compileOutputSchema(broken)).toThrow(why)
  })
})
