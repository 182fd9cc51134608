import { randomBytes } from 'node:crypto'
import {
  buildImage,
  buildIndex,
  eventually,
  type MisbehaviourKind,
  type TestRegistry,
} from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Images } from '../execution/images/images.js'
import { monotonicMs, sleep } from '../support/lifecycle.js'
import { docker, ImagesFixture, newLayer, outcome, quiet, request } from './images-fixture.js'

let fixture: ImagesFixture
let registry: TestRegistry
let images: Images

beforeAll(async () => {
  fixture = new ImagesFixture()
  registry = await fixture.registry()
  images = (await fixture.worker()).images
})
afterEach(() => {
  registry.misbehave(null)
  for (const part of ['manifest', 'blob'] as const) registry.before(part, () => Promise.resolve())
  fixture.forget()
})
afterAll(() => fixture.close())

const nothing = () => undefined

/** Publishes an image that no engine has. @returns its reference */
function publish(tag = '1', layerBytes = 1024): string {
  const repository = `acme/app-${randomBytes(4).toString('hex')}`
  registry.publish(repository, tag, { layers: [newLayer(layerBytes)] })
  return `${registry.host}/${repository}:${tag}`
}

function manifestsAsked(): number {
  return registry.asked.filter(({ part, method }) => part === 'manifest' && method === 'GET').length
}

describe('a pull', () => {
  it('brings an image, with the digest under the name that was asked for', async () => {
    const layers = [newLayer()]
    const digest = registry.publish('acme/one', '1', { layers })
    registry.publish('acme/two', '1', { layers })
    const one = await images.ready(request(`${registry.host}/acme/one:1`), quiet())
    const two = await images.ready(request(`${registry.host}/acme/two:1`), quiet())
    // One image, two repositories: the engine lists both digests for it.
    expect(two.info.id).toBe(one.info.id)
    expect(two.info.repoDigests.length).toBeGreaterThan(1)
    expect(one.digest).toBe(`${registry.host}/acme/one@${digest}`)
    expect(two.digest).toBe(`${registry.host}/acme/two@${digest}`)
  })

  it('takes a digest, and the tag latest where none is named', async () => {
    const digest = registry.publish('acme/plain', 'latest', { layers: [newLayer()] })
    const byDigest = await images.ready(request(`${registry.host}/acme/plain@${digest}`), quiet())
    const byTag = await images.ready(request(`${registry.host}/acme/plain`), quiet())
    expect(byDigest.digest).toBe(`${registry.host}/acme/plain@${digest}`)
    expect(byTag).toMatchObject({ reference: `${registry.host}/acme/plain:latest`, digest: byDigest.digest })
  })

  it('tells a local image by its id', async () => {
    const ready = await images.ready(request('debian-base'), quiet())
    expect(ready).toMatchObject({ reference: 'agirunner/debian-base:1', digest: ready.info.id })
  })

  it('serves all tasks that want the image at the time', async () => {
    const reference = publish()
    const before = manifestsAsked()
    const all = Array.from({ length: 10 }, () => images.ready(request(reference), quiet()))
    expect(new Set((await Promise.all(all)).map(({ info }) => info.id)).size).toBe(1)
    expect(manifestsAsked() - before).toBe(1)
  })

  it('goes on for the others when one task is canceled, and ends when the last is', async () => {
    const reference = publish('1', 512 * 1024)
    // The layer alone, and bytes now and then: an engine that gives up still waits for the image's small description, and
    // looks only when bytes come.
    registry.misbehave('dripping', { on: 'blob', from: 64 * 1024 })
    const tasks = [new AbortController(), new AbortController()]
    const waiting = tasks.map(({ signal }) =>
      outcome(images.ready(request(reference), { signal, progress: nothing })),
    )
    await eventually(() => registry.pending() > 0, { what: 'the slow layer' })
    tasks[0]?.abort(new Error('canceled'))
    expect(await waiting[0]).toEqual({ code: 'untyped', message: 'canceled' })
    expect(registry.pending()).toBeGreaterThan(0)
    tasks[1]?.abort(new Error('canceled too'))
    expect((await waiting[1])?.message).toBe('canceled too')
    // The engine gave up as well: nobody holds the registry's connection any more.
    await eventually(() => registry.pending() === 0, { what: 'the end of the pull' })
    registry.misbehave(null)
    expect(await outcome(images.ready(request(reference), quiet()))).toMatchObject({ code: 'ok' })
  })

  it('tells its progress, and not too often', async () => {
    const told: Record<string, unknown>[] = []
    const bytes = 4 * 1024 * 1024
    const reference = publish('1', bytes)
    const started = Date.now()
    await images.ready(request(reference), { ...quiet(), progress: data => told.push(data) })
    expect(told.length).toBeGreaterThan(0)
    expect(told.length).toBeLessThanOrEqual(2 + (Date.now() - started) / 500)
    const { currentBytes, totalBytes } = told.at(-1) as { currentBytes: number; totalBytes: number }
    expect(currentBytes).toBe(totalBytes)
    expect(totalBytes).toBeGreaterThan(bytes)
  })

  it.each<['mute' | 'stalled', 'manifest' | 'blob']>([
    ['mute', 'manifest'],
    ['stalled', 'blob'],
  ])('of which nothing comes is given up: %s %s', async (kind, on) => {
    const { images: impatient } = await fixture.worker({ pullIdleMs: 1000 })
    const reference = publish('1', 512 * 1024)
    registry.misbehave(kind, { on })
    const { code, message } = await outcome(impatient.ready(request(reference), quiet()))
    expect({ code, message }).toEqual({
      code: 'image.pull_failed',
      message: `image "${reference}": its registry sent nothing for 1 s`,
    })
  })

  it('that is only slow is waited for', async () => {
    const { images: impatient } = await fixture.worker({ pullIdleMs: 1000 })
    const reference = publish()
    // Longer than the limit, and never that long without a word.
    registry.before('manifest', () => sleep(450))
    registry.before('blob', () => sleep(700))
    const started = monotonicMs()
    expect(await outcome(impatient.ready(request(reference), quiet()))).toMatchObject({ code: 'ok' })
    expect(monotonicMs() - started).toBeGreaterThan(1500)
  })
})

describe('what a registry says becomes', () => {
  it.each<[MisbehaviourKind, 'manifest' | 'blob' | 'ping', string, RegExp]>([
    ['unauthorized', 'manifest', 'image.auth_failed', /asks for other credentials/],
    ['denied', 'manifest', 'image.auth_failed', /does not give it/],
    ['manifest-unknown', 'manifest', 'image.not_found', /neither here nor in its registry/],
    ['name-unknown', 'manifest', 'image.not_found', /neither here nor in its registry/],
    ['rate-limited', 'manifest', 'image.pull_failed', /too many requests/],
    ['broken', 'manifest', 'image.pull_failed', /500/],
    ['unavailable', 'manifest', 'image.pull_failed', /503/],
    ['html', 'manifest', 'image.pull_failed', /no registry/],
    ['html-not-found', 'manifest', 'image.pull_failed', /no registry/],
    ['reset', 'manifest', 'image.pull_failed', /EOF|reset/],
    ['reset', 'ping', 'image.pull_failed', /EOF|reset/],
    ['truncated', 'manifest', 'image.pull_failed', /EOF|reset/],
    ['broken', 'blob', 'image.pull_failed', /500/],
    ['rate-limited', 'blob', 'image.pull_failed', /too many requests/],
    ['truncated', 'blob', 'image.pull_failed', /EOF/],
    ['wrong-content', 'blob', 'image.pull_failed', /verif|digest/i],
    ['html', 'blob', 'image.pull_failed', /verif|digest/i],
  ])('%s of a %s: %s', async (kind, on, code, said) => {
    const reference = publish()
    registry.misbehave(kind, { on })
    const found = await outcome(images.ready(request(reference), quiet()))
    expect(found).toMatchObject({ code, message: expect.stringMatching(said) })
    expect(found.message).toContain(reference)
  })

  it('another manifest than the digest names is not taken', async () => {
    const digest = registry.publish('acme/digest', '1', { layers: [newLayer()] })
    registry.misbehave('wrong-content', { on: 'manifest' })
    const found = await outcome(images.ready(request(`${registry.host}/acme/digest@${digest}`), quiet()))
    expect(found).toMatchObject({ code: 'image.pull_failed' })
  })

  it('no image for the platform is incompatible', async () => {
    const platform = 'linux/s390x'
    const image = buildImage({ layers: [newLayer()], platform })
    registry.publish('acme/other', '1', buildIndex([{ image, platform }]))
    const found = await outcome(images.ready(request(`${registry.host}/acme/other:1`), quiet()))
    expect(found).toMatchObject({ code: 'image.incompatible', message: expect.stringContaining('platform') })
  })

  it('nobody there is a failed pull', async () => {
    const found = await outcome(images.ready(request('127.0.0.1:1/acme/app:1'), quiet()))
    expect(found).toMatchObject({ code: 'image.pull_failed', message: expect.stringContaining('refused') })
  })
})

describe('the policy', () => {
  it('always asks the registry, and takes what is new', async () => {
    const reference = publish()
    const first = await images.ready(request(reference), quiet())
    const repository = reference.slice(registry.host.length + 1).split(':')[0] ?? ''
    registry.publish(repository, '1', { layers: [newLayer()] })
    const known = await images.ready(request(reference), quiet())
    const fresh = await images.ready(request(reference, { pullPolicy: 'always' }), quiet())
    expect(known.info.id).toBe(first.info.id)
    expect(fresh.info.id).not.toBe(first.info.id)
    expect(fresh.digest).not.toBe(first.digest)
    docker('rmi', '-f', first.info.id)
  })

  it('always fails when the registry is away, and says that an older one is here', async () => {
    const reference = publish()
    await images.ready(request(reference), quiet())
    registry.misbehave('reset')
    const found = await outcome(images.ready(request(reference, { pullPolicy: 'always' }), quiet()))
    expect(found).toMatchObject({
      code: 'image.pull_failed',
      message: expect.stringContaining('on this machine'),
    })
    expect(await outcome(images.ready(request(reference), quiet()))).toMatchObject({ code: 'ok' })
  })

  it('never asks no registry', async () => {
    const reference = publish()
    const asked = registry.asked.length
    const never = request(reference, { pullPolicy: 'never' })
    expect(await outcome(images.ready(never, quiet()))).toMatchObject({ code: 'image.not_found' })
    expect(registry.asked.length).toBe(asked)
    await images.ready(request(reference), quiet())
    expect(await outcome(images.ready(never, quiet()))).toMatchObject({ code: 'ok' })
  })

  it('takes no id for a name, whole or short', async () => {
    const { info } = await images.ready(request('debian-base'), quiet())
    const hex = info.id.slice('sha256:'.length)
    // The control: the engine itself does take them.
    expect(docker('image', 'inspect', '--format', '{{.Id}}', hex.slice(0, 12))).toBe(info.id)
    for (const name of [hex, info.id, `sha256:${hex.slice(0, 12)}`]) {
      expect(await outcome(images.ready(request(name), quiet()))).toMatchObject({ code: 'spec.invalid' })
    }
    const short = request(hex.slice(0, 12), { pullPolicy: 'never' })
    expect(await outcome(images.ready(short, quiet()))).toMatchObject({ code: 'image.not_found' })
  })
})
