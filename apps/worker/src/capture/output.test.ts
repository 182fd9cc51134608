import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type Output, readOutput } from './output.js'

const { signal } = new AbortController()
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-output-'))
})
afterEach(async () => await rm(folder, { recursive: true, force: true }))

async function read(
  content: string | Buffer,
  schema: Record<string, unknown> | null = null,
): Promise<Output> {
  await writeFile(join(folder, 'result.json'), content)
  return await readOutput({ folder, schema, signal })
}

describe('output/result.json', () => {
  it.each(['null', '0', '"text"', '[]', '{"a":{"__proto__":{"b":1}}}'])('may be any JSON: %s', async json => {
    const output = await read(json)
    expect(output.failure).toBeNull()
    expect(JSON.stringify(output.value)).toBe(json)
  })

  it('need not be there', async () => {
    expect(await readOutput({ folder, schema: null, signal })).toEqual({ value: null, failure: null })
  })

  it.each([
    ['cut off', '{"a":', /JSON/],
    ['empty', '', /JSON/],
    ['not UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22]), /encoded data was not valid/],
    ['too large', `"${'x'.repeat(2 ** 20)}"`, /larger than 1048576 bytes/],
    // It could be read, and then stop the worker from writing the result.
    ['nested too deep', '['.repeat(500_000) + ']'.repeat(500_000), /nested deeper than 500 levels/],
  ])('that is %s is a failure of the task', async (_name, content, why) => {
    const { value, failure } = await read(content)
    expect(value).toBeNull()
    expect(failure).toMatchObject({ code: 'task.output_invalid', message: expect.stringMatching(why) })
  })

  it('is never read through a link', async () => {
    await writeFile(join(folder, 'elsewhere.json'), '{"a":1}')
    await symlink('elsewhere.json', join(folder, 'result.json'))
    const { value, failure } = await readOutput({ folder, schema: null, signal })
    expect(value).toBeNull()
    expect(failure?.message).toMatch(/symbolic link/)
  })
})

describe('output that a task was told how it must look', () => {
  const schema = { type: 'object', required: ['ok'], properties: { ok: { type: 'boolean' } } }

  it('is taken when it looks so', async () => {
    expect(await read('{"ok":true}', schema)).toEqual({ value: { ok: true }, failure: null })
  })

  it('is told, and a failure, when it does not', async () => {
    const { value, failure } = await read('{"ok":1}', schema)
    expect(value).toEqual({ ok: 1 })
    expect(failure).toMatchObject({
      code: 'task.output_invalid',
      message: 'output/result.json is not as capture.outputSchema says: /ok must be boolean',
    })
  })

  it('must be there', async () => {
    const { failure } = await readOutput({ folder, schema, signal })
    expect(failure?.message).toMatch(/missing/)
  })

  it('is a failure when checking it takes for ever, and the worker goes on meanwhile', async () => {
    let ticks = 0
    const ticking = setInterval(() => {
      ticks += 1
    }, 50)
    const { failure } = await read(`"${'a'.repeat(50)}!"`, { type: 'string', pattern: '^(a+)+$' })
    clearInterval(ticking)
    expect(failure?.message).toMatch(/it took more than 10 s to check it/)
    expect(ticks).toBeGreaterThan(100)
  }, 30_000)

  it('stops being checked when the attempt ends', async () => {
    await writeFile(join(folder, 'result.json'), `"${'a'.repeat(50)}!"`)
    const ending = AbortSignal.timeout(300)
    const reading = readOutput({ folder, schema: { pattern: '^(a+)+$' }, signal: ending })
    await expect(reading).rejects.toThrow(/timeout/)
  })

  it('says when the schema itself is none', async () => {
    const { failure } = await read('{}', { type: 'objekt' })
    expect(failure).toMatchObject({ code: 'spec.invalid', phase: 'capture' })
  })
})
