import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { ContainerEngine, ImageInfo } from '../engine/engine.js'
import { type ImageFacts, Verification } from '../execution/images/verification.js'
import { hostId, newWorkerId } from '../support/identity.js'
import { docker, ImagesFixture, quiet } from './images-fixture.js'

const BASE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
let fixture: ImagesFixture
const made: string[] = []

beforeAll(() => {
  fixture = new ImagesFixture()
})
afterAll(async () => {
  await fixture.close()
  for (const name of made) docker('rmi', '-f', name)
})

/** The base image after a command, as an image of its own. */
async function derive(script: string): Promise<ImageInfo> {
  const name = `agirunner-test/verify-${process.pid}-${made.length}:1`
  const container = name.replaceAll(/[/:]/g, '-')
  try {
    docker('run', '--name', container, '--network', 'none', '--user', '0:0', BASE, 'sh', '-c', script)
    docker('commit', container, name)
    made.push(name)
  } finally {
    docker('rm', '-f', container)
  }
  const info = await fixture.engine.image(name)
  if (!info) throw new Error('the engine lost the image')
  return info
}

async function verify(image: ImageInfo, deadlineMs = 60_000): Promise<ImageFacts> {
  const { engine, dataDir, stack } = fixture
  const owner = { worker: newWorkerId(), host: hostId(), stack }
  const info = await engine.info()
  return await new Verification({ engine, info, owner, dataDir, deadlineMs }).facts(image, quiet().signal)
}

/** A program of that name that does this. */
const program = (name: string, does: string) =>
  `printf '#!/bin/sh\\n%s\\n' '${does}' >/usr/local/bin/${name} && chmod 755 /usr/local/bin/${name}`

describe('a verification', () => {
  it('tells what an image holds', async () => {
    const image = await derive(program('node', 'echo v99.0.0'))
    expect(await verify(image)).toEqual({
      version: 1,
      id: image.id,
      platform: image.platform,
      missing: [],
      problem: null,
      distro: expect.stringMatching(/Debian|Ubuntu/),
      packageManager: 'apt-get',
      libc: expect.stringMatching(/^glibc \d/),
      user: expect.stringContaining('10001'),
      certificates: true,
      runtimes: {
        git: expect.stringMatching(/^git version \d/),
        node: 'v99.0.0',
        perl: expect.stringMatching(/^v5/),
      },
      volumes: [],
      complete: true,
    })
  })

  it('names what a bootstrap would miss', async () => {
    const { missing } = await verify(await derive('rm /bin/mv /bin/sleep'))
    expect(missing).toEqual(['mv', 'sleep'])
  })

  it('says why nothing runs at all', async () => {
    const { missing, problem } = await verify(await derive('rm /bin/sh'))
    expect(missing).toEqual(['sh'])
    expect(problem).toMatch(/no \/bin\/sh that runs \(exit code \d+\): .*No such file/)
  })

  it('has no network, no rights and no way to write', async () => {
    const ways = 'id -u; touch /x /etc/x 2>/dev/null && echo wrote; cat /proc/net/route | wc -l'
    const { runtimes } = await verify(await derive(program('node', `(${ways}) 2>&1 | tr "\\n" " "`)))
    expect(runtimes.node).toBe('10001 1')
  })

  it('is not held up by a program that never ends', async () => {
    const { missing, runtimes, complete } = await verify(await derive(program('python3', 'sleep 600')), 4000)
    expect({ missing, complete }).toEqual({ missing: [], complete: false })
    expect(runtimes.git).toMatch(/^git version/)
  })

  it('is not held up by one that prints without end, nor filled', async () => {
    const facts = await verify(await derive(program('python3', 'while :; do echo; done')), 4000)
    expect(facts.complete).toBe(false)
    const wordy = await verify(
      await derive(program('python3', 'yes "a long line of text" | tr -d "\\n"')),
      4000,
    )
    expect(JSON.stringify(wordy).length).toBeLessThan(4000)
  })

  it('shows nothing that acts on a terminal', async () => {
    const { runtimes } = await verify(await derive(program('node', 'printf "\\033]0;evil\\007 v1"')))
    expect(runtimes.node).toBe('?]0;evil? v1')
  })

  it('refuses a shell that says nothing, and asks again the next time', async () => {
    const image = await derive(
      'rm /bin/sh && printf "#!/usr/bin/perl\\nsleep 600" >/bin/sh && chmod 755 /bin/sh',
    )
    const before = readdirSync(join(fixture.dataDir, 'images', 'verified')).length
    await expect(verify(image, 2000)).rejects.toMatchObject({ code: 'image.incompatible' })
    expect(readdirSync(join(fixture.dataDir, 'images', 'verified'))).toHaveLength(before)
  })

  it('is done once for an image, over all workers of a data folder', async () => {
    const image = await derive(program('node', 'echo v1'))
    let created = 0
    const { engine, dataDir, stack } = fixture
    // Counts, and passes on.
    const counting = new Proxy(engine, {
      get(target, key: keyof ContainerEngine) {
        if (key === 'create') created += 1
        const value = target[key] as (...args: unknown[]) => unknown
        return value.bind(target)
      },
    })
    const owner = { worker: newWorkerId(), host: hostId(), stack }
    const options = { engine: counting, info: await engine.info(), owner, dataDir }
    const one = new Verification(options)
    await Promise.all([one, one, one].map(worker => worker.facts(image, quiet().signal)))
    await new Verification(options).facts(image, quiet().signal)
    expect(created).toBe(1)
  })
})
