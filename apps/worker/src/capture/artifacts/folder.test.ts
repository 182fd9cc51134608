import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseTask } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { sweepArtifacts } from '../../cleanup/retention.js'
import type { AcceptedTask } from '../../intake/accepted-task.js'
import { LOCAL_STORAGE } from '../storage.js'
import { artifactFolder } from './folder.js'

const HOUR = 3600_000
let dataDir: string
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'agirunner-folder-'))
})
afterAll(() => rm(dataDir, { recursive: true }))

const LEFT = { logs: { bytes: 0, lines: 0, truncated: false, uri: null }, changes: null, artifacts: [] }

function accepted(retention: string): AcceptedTask {
  const task = parseTask({
    taskId: 't-1',
    run: { script: 'true' },
    limits: { timeout: 7200 },
    capture: { retention },
  })
  return { task, fence: 1 } as AcceptedTask
}

describe('the folder of an attempt', () => {
  it.each([
    ['ephemeral', 1],
    ['days:2', 48],
  ])('outlasts its task, and then stays as long as it should: %s', async (retention, hours) => {
    const task = accepted(retention)
    const folder = artifactFolder(dataDir, task)
    expect(await sweepArtifacts(dataDir, Date.now() + 3 * HOUR)).toBe(0)
    await LOCAL_STORAGE.publish(task, folder, LEFT, new AbortController().signal)
    expect(await sweepArtifacts(dataDir, Date.now() + (hours - 0.1) * HOUR)).toBe(0)
    expect(await sweepArtifacts(dataDir, Date.now() + (hours + 0.1) * HOUR)).toBe(1)
  })

  it('stays for ever once it is sealed, and goes when its worker died before', async () => {
    const task = accepted('forever')
    const folder = artifactFolder(dataDir, task)
    expect(await sweepArtifacts(dataDir, Date.now() + 27 * HOUR)).toBe(1)
    expect(artifactFolder(dataDir, task)).toBe(folder)
    await LOCAL_STORAGE.publish(task, folder, LEFT, new AbortController().signal)
    expect(await readFile(join(folder, 'expires'), 'utf8')).toBe('never')
    expect(await sweepArtifacts(dataDir, Date.now() + 100_000 * HOUR)).toBe(0)
  })
})
