import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually, type TestRegistry } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import type { Images } from '../execution/images/images.js'
import { Secret } from '../support/secret.js'
import { docker, ImagesFixture, newLayer, outcome, quiet, request, withPassword } from './images-fixture.js'

const USER = 'someone'
/** Its base64 holds both letters that an address can't. */
const TOKEN = 'p~s?w>rd "\\ 1f3870be274f6c49'
const auth = { username: USER, password: TOKEN }

let fixture: ImagesFixture
let hub: TestRegistry
let strict: TestRegistry
let images: Images
let image: string
let layer: Buffer

beforeAll(async () => {
  fixture = new ImagesFixture()
  hub = await fixture.registry({ auth: { ...auth, scheme: 'bearer', open: ['open/app'] } })
  strict = await fixture.registry({ auth: { ...auth, scheme: 'basic' } })
  image = `${hub.host}/acme/private:1`
})
beforeEach(async () => {
  layer = newLayer()
  for (const repository of ['acme/private', 'open/app']) hub.publish(repository, '1', { layers: [layer] })
  strict.publish('acme/private', '1', { layers: [layer] })
  images = (await fixture.worker()).images
})
afterEach(() => {
  for (const registry of [hub, strict]) registry.misbehave(null)
  fixture.dockerConfig({})
  fixture.forget()
})
afterAll(() => fixture.close())

const as = (tenantId: string, more: object = {}) => request(image, { tenantId, ...more })
const ready = (...args: Parameters<Images['ready']>) => outcome(images.ready(...args))

describe('credentials', () => {
  it.each(['bearer', 'basic'])('of a task reach a registry with %s', async scheme => {
    const reference = `${(scheme === 'basic' ? strict : hub).host}/acme/private:1`
    expect(await ready(request(reference), quiet())).toMatchObject({ code: 'image.auth_failed' })
    const wrong = withPassword(request(reference), USER, 'wr0ng')
    expect(await ready(wrong, quiet())).toMatchObject({ code: 'image.auth_failed' })
    expect(await ready(withPassword(request(reference), USER, TOKEN), quiet())).toEqual({
      code: 'ok',
      message: '',
    })
  })

  it('are taken out of what a registry says', async () => {
    // It quotes what it was told: in a path, because the engine passes that on.
    const { code, message } = await ready(
      withPassword(request(`${hub.host}/acme/sesame:1`), USER, 'sesame'),
      quiet(),
    )
    expect(code).toBe('image.auth_failed')
    expect(message).not.toContain('sesame')
    expect(message).toContain('acme/***')
  })

  it('separate pulls of one reference', async () => {
    const [good, bad] = await Promise.all([
      ready(withPassword(as('acme'), USER, TOKEN), quiet()),
      ready(withPassword(as('acme'), USER, 'wr0ng'), quiet()),
    ])
    expect([good.code, bad.code]).toEqual(['ok', 'image.auth_failed'])
  })
})

describe('an image that came by the credentials of one tenant', () => {
  beforeEach(async () => {
    await images.ready(withPassword(as('acme'), USER, TOKEN), quiet())
  })

  it('would be given by the engine to anybody who names it', () => {
    // The control: it is on the machine, and nothing but the runtime stands before it.
    expect(docker('image', 'inspect', '--format', '{{.Id}}', image)).toMatch(/^sha256:/)
  })

  it('is used again by that tenant without asking', async () => {
    const asked = hub.asked.length
    expect(await ready(as('acme'), quiet())).toMatchObject({ code: 'ok' })
    expect(await ready(as('acme', { pullPolicy: 'never' }), quiet())).toMatchObject({ code: 'ok' })
    expect(hub.asked.length).toBe(asked)
  })

  it('is refused to another, whatever the policy and the name', async () => {
    const { digest } = await images.ready(as('acme'), quiet())
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
    expect(await ready(as('evil', { pullPolicy: 'never' }), quiet())).toEqual({
      code: 'image.not_found',
      message: `image "${image}" is not on this machine and pullPolicy is "never"`,
    })
    for (const pullPolicy of ['if_not_present', 'never'] as const) {
      const byDigest = await ready(request(digest, { tenantId: 'evil', pullPolicy }), quiet())
      expect(byDigest.code).toMatch(/^image\.(auth_failed|not_found)$/)
    }
    const guessed = withPassword(as('evil'), USER, 'guess')
    expect(await ready(guessed, quiet())).toMatchObject({ code: 'image.auth_failed' })
    // Having tried gives no rights.
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
  })

  it('is refused by a worker that starts later, too', async () => {
    images = (await fixture.worker()).images
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
    expect(await ready(as('acme'), quiet())).toMatchObject({ code: 'ok' })
  })

  it('is given to another who shows that he may have it, once and for all', async () => {
    expect(await ready(withPassword(as('partner'), USER, TOKEN), quiet())).toMatchObject({ code: 'ok' })
    expect(await ready(as('partner', { pullPolicy: 'never' }), quiet())).toMatchObject({ code: 'ok' })
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
  })

  it('is refused while its registry can not be asked', async () => {
    hub.misbehave('reset')
    expect(await ready(as('partner'), quiet())).toMatchObject({ code: 'image.pull_failed' })
    expect(await ready(as('acme'), quiet())).toMatchObject({ code: 'ok' })
  })

  it('is open to all once the same content came without any', async () => {
    const open = request(`${hub.host}/open/app:1`, { tenantId: 'other' })
    expect(await ready(open, quiet())).toMatchObject({ code: 'ok' })
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'ok' })
  })
})

describe('what was there before', () => {
  it('is not taken from the others by a pull with credentials', async () => {
    await images.ready(request(`${hub.host}/open/app:1`), quiet())
    await images.ready(withPassword(as('greedy'), USER, TOKEN), quiet())
    expect(await ready(request(`${hub.host}/open/app:1`, { tenantId: 'other' }), quiet())).toMatchObject({
      code: 'ok',
    })
  })

  it('is not taken by one that fails, either', async () => {
    const base = request('debian-base', { pullPolicy: 'always', tenantId: 'evil' })
    expect((await ready(withPassword(base, USER, TOKEN), quiet())).code).toMatch(/^image\./)
    expect(await ready(request('debian-base'), quiet())).toMatchObject({ code: 'ok' })
  })
})

describe('a pull by credentials that is under way', () => {
  const folder = () => join(fixture.dataDir, 'images', 'pulls')

  it('keeps what it brings from others, from the first moment', async () => {
    // Between the moment at which the engine has it and the record: a worker that was killed there left this.
    mkdirSync(folder(), { recursive: true })
    const known = (await fixture.engine.images()).map(({ id }) => id)
    const intent = {
      worker: `w-${process.pid}-0-x`,
      repository: `${hub.host}/acme/private`,
      known,
      at: Date.now(),
    }
    writeFileSync(join(folder(), 'x.json'), JSON.stringify(intent))
    const credentials = { username: USER, password: new Secret(TOKEN) }
    await fixture.engine.pull(image, { ...quiet(), credentials, idleMs: 20_000 })
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
    writeFileSync(join(folder(), 'x.json'), JSON.stringify({ ...intent, worker: 'w-999999999-1-dead' }))
    images = (await fixture.worker()).images
    expect(readdirSync(folder())).not.toContain('x.json')
    expect(await ready(as('evil'), quiet())).toMatchObject({ code: 'image.auth_failed' })
    expect(await ready(withPassword(as('acme'), USER, TOKEN), quiet())).toMatchObject({ code: 'ok' })
  })

  it('leaves its mark when it is given up, because the engine may finish it', async () => {
    hub.misbehave('stalled', { on: 'blob' })
    const before = readdirSync(folder()).length
    const controller = new AbortController()
    const share = { signal: controller.signal, progress: () => undefined }
    const pulling = ready(withPassword(as('acme'), USER, TOKEN), share)
    await eventually(() => hub.pending() > 0, { what: 'the pull' })
    controller.abort(new Error('canceled'))
    expect(await pulling).toMatchObject({ message: 'canceled' })
    expect(readdirSync(folder())).toHaveLength(before + 1)
    // Another worker leaves it to the one that is alive.
    await fixture.worker()
    expect(readdirSync(folder())).toHaveLength(before + 1)
  })
})

describe("the worker's own Docker config", () => {
  it('has credentials for a registry, and what comes by them is for all', async () => {
    const encoded = Buffer.from(`${USER}:${TOKEN}`).toString('base64')
    fixture.dockerConfig({ auths: { [hub.host]: { auth: encoded } } })
    expect(await ready(as('acme'), quiet())).toMatchObject({ code: 'ok' })
    fixture.dockerConfig({})
    expect(await ready(as('other'), quiet())).toMatchObject({ code: 'ok' })
  })

  it('takes keys with a scheme and a path, and no other registry', async () => {
    const auths = { [`http://${hub.host}/v2/`]: { username: USER, password: TOKEN } }
    fixture.dockerConfig({ auths })
    expect(await ready(as('acme'), quiet())).toMatchObject({ code: 'ok' })
    expect(await ready(request(`${strict.host}/acme/private:1`), quiet())).toMatchObject({
      code: 'image.auth_failed',
    })
  })
})
