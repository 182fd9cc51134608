import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Changes, Stored } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { PatchUnavailableError } from './errors.js'
import { readPatch } from './patch.js'
import { resultOf } from './testing/scripted-worker.js'

const bytes = Buffer.from('diff --git a/x b/x\n\0\xff', 'latin1')
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-patch-'))
  await writeFile(join(folder, 'changes.patch'), bytes)
})
afterAll(() => rm(folder, { recursive: true }))

function changesWith(patch: Stored | null, path?: string): Changes {
  const file = { path: path ?? '', from: null, status: 'added', mode: '100644', binary: false } as const
  const files = path === undefined ? [] : [file]
  const nothing = { commits: [], commit: null, bundle: null, pushed: null, notes: [] }
  return { files, insertions: 0, deletions: 0, tree: '0'.repeat(40), patch, ...nothing }
}

function stored(uri = pathToFileURL(join(folder, 'changes.patch')).href, of = bytes): Stored {
  return { uri, sizeBytes: bytes.length, sha256: createHash('sha256').update(of).digest('hex') }
}

async function read(changes: Changes | null): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of readPatch('t-1', resultOf('t-1', { changes }))) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('readPatch', () => {
  it('gives the exact bytes', async () => {
    expect(await read(changesWith(stored(), 'repo/x'))).toEqual(bytes)
  })

  it('gives nothing for a task that changed nothing', async () => {
    expect(await read(changesWith(null))).toHaveLength(0)
  })

  it.each([
    ['elsewhere', () => changesWith(stored('s3://bucket/key'), 'repo/x')],
    ['elsewhere', () => changesWith(stored('file://other-host/changes.patch'), 'repo/x')],
    ['elsewhere', () => changesWith(stored(pathToFileURL(join(folder, 'gone')).href), 'repo/x')],
    ['damaged', () => changesWith(stored(undefined, Buffer.from('other')), 'repo/x')],
    ['not_captured', () => changesWith(null, 'repo/x')],
    ['not_captured', () => null],
  ])('says why it is not readable: %s', async (reason, changes) => {
    const error = await read(changes()).catch((failure: unknown) => failure)
    expect(error).toBeInstanceOf(PatchUnavailableError)
    expect(error).toMatchObject({ reason, code: 'patch.unavailable', taskId: 't-1' })
    expect((error as Error).message.split('; ').length).toBeGreaterThanOrEqual(3)
  })

  it('says so when the task has not finished', async () => {
    await expect(readPatch('t-1', null).next()).rejects.toMatchObject({ reason: 'unfinished' })
  })
})
