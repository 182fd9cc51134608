import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TaskResult } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { readArtifact } from './artifact.js'
import { ArtifactUnavailableError } from './errors.js'
import { resultOf } from './testing/scripted-worker.js'

const bytes = Buffer.from('what a task left\0\xff', 'latin1')
let folder: string
let uri: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-artifact-'))
  await writeFile(join(folder, '1-a.txt'), bytes)
  uri = pathToFileURL(join(folder, '1-a.txt')).href
})
afterAll(() => rm(folder, { recursive: true }))

function resultWith(at: string, sum = createHash('sha256').update(bytes).digest('hex')): TaskResult {
  const stored = { uri: at, sizeBytes: bytes.length, sha256: sum }
  return resultOf('t-1', {
    artifacts: [{ ...stored, path: 'output/a.txt', mediaType: 'text/plain' }],
    skipped: [{ path: 'output/link', reason: 'symlink' }],
    logs: { bytes: 1, lines: 1, truncated: false, uri: at },
  })
}

async function read(path: string, result: TaskResult | null): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of readArtifact('t-1', path, result)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('an artifact', () => {
  it.each(['output/a.txt', 'log'])('comes byte by byte: %s', async path => {
    expect(await read(path, resultWith(uri))).toEqual(bytes)
  })

  it.each([
    ['unfinished', 'output/a.txt', () => null, /not finished/],
    ['not_captured', 'output/b.txt', () => resultWith(uri), /no artifact of that path/],
    ['not_captured', 'output/link', () => resultWith(uri), /left out \(symlink\)/],
    ['not_captured', 'changes.bundle', () => resultWith(uri), /no artifact/],
    ['elsewhere', 'output/a.txt', () => resultWith('s3://bucket/key'), /s3:\/\/bucket/],
    ['elsewhere', 'output/a.txt', () => resultWith(`${uri}-gone`), /ENOENT/],
    ['damaged', 'output/a.txt', () => resultWith(uri, '0'.repeat(64)), /SHA-256 differs/],
  ])('says why it can’t be read: %s, %s', async (reason, path, result, why) => {
    const error = await read(path, result()).catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(ArtifactUnavailableError)
    expect(error).toMatchObject({ reason, path, taskId: 't-1', code: 'artifact.unavailable' })
    expect((error as Error).message).toMatch(why)
    expect((error as Error).message.split('; ').length).toBeGreaterThanOrEqual(3)
  })
})
