import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { git, type HostileKind } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { GitLimits, Workspaces } from '../workspace/index.js'
import { contentOf, expectHarmless, HostileFixture } from './hostile-fixture.js'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

let hostile: HostileFixture
beforeAll(async () => {
  hostile = await HostileFixture.start()
})
afterAll(() => hostile.close())

const HONEST = { a: 'a\n' }

describe('the test itself', () => {
  test('real git takes what the server says when it is honest', async () => {
    const fixture = await WorkspaceFixture.create()
    try {
      const clone = join(fixture.root, 'clone')
      for (const version of [0, 1, 2]) {
        const to = `${clone}-${version}`
        await git(['-c', `protocol.version=${version}`, 'clone', '-q', hostile.server.at('honest'), to])
        await git(['fsck', '--strict'], { cwd: to })
        expect(await contentOf(to)).toEqual(HONEST)
      }
      await expect(git(['clone', '-q', hostile.server.at('reset-in-a-pack'), clone])).rejects.toThrow('128')
    } finally {
      await fixture.close()
    }
  })

  test('a process that takes much memory or stands still is seen', async () => {
    const report = await hostile.burden()
    expect(() => expectHarmless({ ...report, blockedMs: 0 })).toThrow()
    expect(() => expectHarmless({ ...report, grownBytes: 0 })).toThrow()
    expect(report.blockedMs).toBeGreaterThan(200)
  })
})

describe('a server that', () => {
  test.each<[HostileKind, string, string]>([
    ['status-401', 'workspace.auth_failed', 'wants other credentials'],
    ['status-403', 'workspace.auth_failed', 'answered 403'],
    ['status-404', 'workspace.not_found', 'answered 404'],
    ['status-500', 'workspace.remote_broken', 'answered 500'],
    ['status-503', 'workspace.remote_broken', 'answered 503'],
    ['status-401-at-fetch', 'workspace.auth_failed', 'answered 401'],
    ['status-500-at-fetch', 'workspace.remote_broken', 'answered 500'],
    ['redirect-to-loopback', 'workspace.remote_unreachable', 'ECONNREFUSED'],
    ['redirect-to-metadata', 'workspace.url_forbidden', 'is a metadata address'],
    ['redirect-to-metadata-in-ipv6', 'workspace.url_forbidden', 'is a metadata address'],
    ['redirect-to-file', 'workspace.url_forbidden', 'redirects to file:'],
    ['redirect-to-ssh', 'workspace.url_forbidden', 'redirects to ssh:'],
    ['redirect-to-nowhere', 'workspace.remote_broken', 'redirects to no address'],
    ['redirect-without-end', 'workspace.remote_broken', 'redirects without end'],
    ['redirect-of-a-fetch', 'workspace.remote_broken', 'redirects a fetch'],
    ['html-for-refs', 'workspace.remote_broken', '"<htm" where the length of a line belongs'],
    ['html-for-a-listing', 'workspace.remote_broken', '"<htm" where the length of a line belongs'],
    ['html-for-a-pack', 'workspace.remote_broken', '"<htm" where the length of a line belongs'],
    ['nothing-for-refs', 'workspace.remote_broken', 'has no end'],
    ['nothing-for-a-pack', 'workspace.remote_broken', 'has no end'],
    ['reset-in-refs', 'workspace.remote_broken', 'broke the connection'],
    ['reset-in-a-pack', 'workspace.remote_broken', 'broke the connection'],
    ['oversize-headers', 'workspace.remote_broken', 'broke the connection'],
    ['endless-refs', 'workspace.too_large', 'more than the 8388608 bytes'],
    ['id-that-is-a-path', 'workspace.remote_broken', 'without valid ids'],
    ['ids-that-are-none', 'workspace.remote_broken', 'without valid ids'],
    ['length-of-3', 'workspace.remote_broken', '"0003" where the length'],
    ['length-of-no-hex', 'workspace.remote_broken', '"zzzz" where the length'],
    ['length-beyond-the-end', 'workspace.remote_broken', 'ends inside a line'],
    ['length-above-the-limit', 'workspace.remote_broken', '"ffff" where the length'],
    ['empty-lines', 'workspace.remote_broken', 'without valid ids'],
    ['no-end-of-a-listing', 'workspace.remote_broken', 'has no end'],
    ['version-2-unasked', 'workspace.remote_broken', 'does not answer like a git server'],
    ['error-for-refs', 'workspace.remote_broken', 'access denied or repository not exported'],
    ['error-for-a-listing', 'workspace.remote_broken', 'the disk is full'],
  ])('has %s is told as such', async (kind, code, message) => {
    expect((await hostile.refused(kind)).failure).toMatchObject({
      code,
      message: expect.stringContaining(message),
    })
  })

  test('is not there is told as such', async () => {
    const { failure } = await hostile.refused({ url: hostile.server.refusing })
    expect(failure).toMatchObject({ code: 'workspace.remote_unreachable' })
  })

  test('is on the loopback is not asked unless the operator allows it', async () => {
    const before = hostile.server.asked.length
    const { failure } = await hostile.refused('honest', { allowPrivate: false })
    expect(failure).toMatchObject({ code: 'workspace.url_forbidden' })
    expect(hostile.server.asked.length).toBe(before)
    await hostile.made('honest')
  })
})

/** What ends it is the limit, which the message names; with a higher one the same server is waited for. */
describe('a deadline', () => {
  test.each<[HostileKind, Partial<GitLimits>, string]>([
    ['silent', { firstByteMs: 400 }, 'did not answer within 0.4 s'],
    ['silent-at-fetch', { firstByteMs: 400 }, 'did not answer within 0.4 s'],
    ['late-refs', { firstByteMs: 400 }, 'did not answer within 0.4 s'],
    ['late-pack', { firstByteMs: 400 }, 'did not answer within 0.4 s'],
    ['stalled-refs', { idleMs: 1000 }, 'sent nothing for 1 s'],
    ['stalled-pack', { idleMs: 1000 }, 'sent nothing for 1 s'],
    ['dripping-pack', { totalMs: 1000 }, 'took longer than 1 s'],
    ['trickle-of-refs', { totalMs: 1000 }, 'took longer than 1 s'],
    ['trickle-of-a-pack', { totalMs: 1000 }, 'took longer than 1 s'],
  ])('ends %s', async (kind, limits, message) => {
    const { failure } = await hostile.refused(kind, { limits })
    expect(failure).toMatchObject({ code: 'workspace.timeout', message: expect.stringContaining(message) })
  })

  test('ends a connection that is never made', async () => {
    const limits = { connectMs: 300 }
    const { failure } = await hostile.refused({ url: hostile.server.mute }, { limits })
    expect(failure).toMatchObject({
      code: 'workspace.timeout',
      message: expect.stringContaining('accept the connection within 0.3 s'),
    })
  })

  test.each<[HostileKind, Partial<GitLimits>]>([
    ['late-refs', {}],
    ['late-pack', {}],
    ['dripping-pack', { idleMs: 1000 }],
  ])('that is kept does not end %s', async (kind, limits) => {
    await hostile.made(kind, { limits }, async repo => expect(await contentOf(repo)).toEqual(HONEST))
  })

  test('of the whole ends the child as well', async () => {
    const { children } = await hostile.refused('trickle-of-a-pack', { limits: { totalMs: 1000 } })
    expect(children.before.every(pid => children.after.includes(pid))).toBe(false)
  })
})

describe('the bytes of an answer', () => {
  test('count, and 100,000 refs are allowed to be that large', async () => {
    const { failure } = await hostile.refused('many-refs', { limits: { maxFetchBytes: 2 ** 20 } })
    expect(failure).toMatchObject({ code: 'workspace.too_large' })
    const made = await hostile.made('many-refs', { ref: 'b-99999' }, async repo => {
      expect(await contentOf(repo)).toEqual(HONEST)
      expect(await git(['for-each-ref', '--format=%(refname)'], { cwd: repo })).toBe(
        'refs/heads/b-99999\nrefs/remotes/origin/b-99999',
      )
    })
    expect(made.ref).toBe('refs/heads/b-99999')
  })
})

describe('a ref', () => {
  test.each(['__proto__', 'constructor'])('may be called %s', async ref => {
    const made = await hostile.made('refs-of-objects', { ref }, async repo => {
      expect(await contentOf(repo)).toEqual(HONEST)
      expect(await git(['symbolic-ref', 'HEAD'], { cwd: repo })).toBe(`refs/heads/${ref}`)
    })
    expect(made.ref).toBe(`refs/heads/${ref}`)
  })

  test('that is not there is not found, whatever every object has', async () => {
    for (const ref of ['toString', 'constructor', '__proto__']) {
      expect((await hostile.refused('honest', { ref })).failure).toMatchObject({
        code: 'workspace.ref_not_found',
      })
    }
  })

  /** Each beside honest ones, which are still to be had. */
  test.each<[HostileKind, string]>([
    ['ref-with-newline', 'a\nb'],
    ['ref-with-dots', '../../../escaped'],
    ['ref-with-dots', 'refs/heads/../../../escaped'],
    ['ref-of-4000-bytes', `${'long/'.repeat(200)}`],
  ])('that is none is passed over: %s', async (kind, ref) => {
    expect((await hostile.refused(kind, { ref })).failure).toMatchObject({ code: 'workspace.ref_not_found' })
    await hostile.made(kind, {}, async repo => {
      expect(await git(['for-each-ref', '--format=%(refname)'], { cwd: repo })).toBe(
        'refs/heads/main\nrefs/remotes/origin/main',
      )
    })
  })

  test('with a NUL is passed over', async () => {
    await hostile.made('ref-with-nul')
  })

  test.each<HostileKind>([
    'honest',
    'head-with-newline',
    'head-with-dots',
    'head-at-no-ref',
    'head-of-long-name',
  ])('is what HEAD becomes only when it is one: %s', async kind => {
    const made = await hostile.made(kind, { ref: null }, async repo => {
      expect(await git(['status', '--porcelain', '--branch'], { cwd: repo })).toBe('## main...origin/main')
      expect(await git(['fsck', '--strict'], { cwd: repo })).toBe('')
      expect(await git(['config', '--list', '--local'], { cwd: repo })).not.toContain('evil')
      expect(await readFile(join(repo, '.git/HEAD'), 'utf8')).toBe('ref: refs/heads/main\n')
    })
    expect(made.ref).toBe('refs/heads/main')
  })
})

describe('credentials', () => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  const password = 's3cret-t0ken'
  const sent = `Basic ${Buffer.from(`someone:${password}`).toString('base64')}`
  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    room = fixture.room('copy')
  })
  afterAll(() => fixture.close())

  /** Asks for credentials, then redirects the first request to where `to` says. */
  async function lure(to: (path: string) => string, asks: boolean) {
    const server = createServer((request, response) => {
      if (asks && request.headers.authorization !== sent) {
        return void response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end()
      }
      response.writeHead(302, { location: to(request.url ?? '') }).end()
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/x.git` }
  }

  const authorizations = async (url: string) => {
    const before = hostile.server.asked.length
    const preparing = room.prepare(accept({ url, ref: 'main' }, { password }), QUIET)
    const failure = await preparing.then(
      plan => plan.release().then(() => null),
      error => error,
    )
    const asked = hostile.server.asked.slice(before)
    return { failure, asked: asked.length, got: asked.map(({ authorization }) => authorization) }
  }

  const elsewhere = (kind: HostileKind) => (path: string) =>
    hostile.server.at(kind) + path.replace('/x.git', '')

  test.each<[string, HostileKind, boolean, string | null]>([
    ['after they were asked for', 'honest', true, null],
    ['before they were asked for', 'honest', false, null],
    ['to one that asks for them itself', 'status-401', false, 'workspace.auth_failed'],
    ['to one that asks for them at the end', 'status-401-at-fetch', true, 'workspace.auth_failed'],
  ])('are not sent on to another server %s', async (_when, kind, asks, code) => {
    const { server, url } = await lure(elsewhere(kind), asks)
    const { failure, asked, got } = await authorizations(url)
    server.close()
    server.closeAllConnections()
    expect(failure?.code ?? null).toBe(code)
    expect(asked).toBeGreaterThan(0)
    expect(got.every(authorization => authorization === null)).toBe(true)
  })

  test('are sent to the server itself, also from one of its addresses to another', async () => {
    const { asked, got } = await authorizations(hostile.server.at('status-401'))
    expect([asked, got]).toEqual([2, [null, sent]])
    const moved = await authorizations(hostile.server.at('redirect-then-401'))
    expect(moved.failure).toBeNull()
    expect(moved.got).toContain(sent)
  })
})
