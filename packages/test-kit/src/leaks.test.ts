import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import Docker from 'dockerode'
import { expectNoLeaks, leaks } from './leaks.js'
import { uniqueQueue } from './redis.js'

const docker = new Docker()
const name = uniqueQueue('leak')
const labels = { 'agirunner.worker': name }
const release: (() => Promise<unknown>)[] = []
let dataDir: string

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'agirunner-leaks-'))
})
afterEach(async () => {
  for (const step of release.splice(0).toReversed()) await step()
  await rm(dataDir, { recursive: true, force: true })
})

async function leak(): Promise<void> {
  const Labels = { ...labels, 'agirunner.managed': 'true' }
  await docker.createVolume({ Name: name, Labels })
  release.push(() => docker.getVolume(name).remove())
  const network = await docker.createNetwork({ Name: name, Labels })
  release.push(() => network.remove())
  const container = await docker.createContainer({ name, Labels, Image: 'agirunner/debian-base:1' })
  release.push(() => container.remove({ force: true }))
  await mkdir(join(dataDir, 'slots/s1'), { recursive: true })
}

describe('leaks', () => {
  it('finds nothing where nothing is', async () => {
    expect(await leaks({ dataDir, labels })).toEqual([])
    await expectNoLeaks({ dataDir, labels, within: 0 })
  })

  it('finds everything that bears the labels, and slots', async () => {
    await leak()
    expect(await leaks({ dataDir, labels })).toEqual([
      `container /${name} (created)`,
      `volume ${name}`,
      `network ${name}`,
      `slot ${dataDir}/slots/s1`,
    ])
    expect(await leaks({ dataDir, labels: { 'agirunner.worker': 'another' } })).toEqual([
      `slot ${dataDir}/slots/s1`,
    ])
    await expect(expectNoLeaks({ dataDir, labels, within: 1 })).rejects.toThrow(
      /left behind after 1 ms:\n {2}container/,
    )
  })

  it('finds mounts below the data folder', async () => {
    expect(await leaks({ dataDir: '/dev', labels })).toContainEqual(expect.stringMatching(/^mount \/dev\/./))
  })
})
