import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { git } from './git.js'
import { type GitServer, serveGit } from './git-server.js'
import { createRepository, manyFiles, type Repository } from './repository.js'

const AUTH = { username: 'x-access-token', password: 'let-me-in' }
let root: string
let repository: Repository
const servers: GitServer[] = []

async function serve(options: Partial<Parameters<typeof serveGit>[0]> = {}): Promise<GitServer> {
  const server = await serveGit({ root, ...options })
  servers.push(server)
  return server
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'agirunner-test-kit-'))
  repository = await createRepository({ root, name: 'demo', files: { 'a.txt': 'one\n' } })
})

afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.close()))
  await rm(root, { recursive: true, force: true })
})

describe('serveGit', () => {
  it.each(['0', '1', '2'])('serves a clone with protocol %s', async version => {
    const server = await serve()
    await git([
      '-c',
      `protocol.version=${version}`,
      'clone',
      '--quiet',
      `${server.url}/demo.git`,
      join(root, 'clone'),
    ])
    expect(await readFile(join(root, 'clone/a.txt'), 'utf8')).toBe('one\n')
    expect(server.requests[0]).toEqual({
      method: 'GET',
      url: '/demo.git/info/refs?service=git-upload-pack',
      protocol: version === '0' ? null : `version=${version}`,
      status: 200,
    })
    expect(server.requests.filter(({ method }) => method === 'POST')).not.toHaveLength(0)
  })

  it('gives any commit by its id, one that no ref points at too', async () => {
    await repository.change(async more => {
      await more.write({ 'a.txt': 'two\n' })
      await more.commit('second')
      await more.git(['reset', '--quiet', '--hard', 'HEAD^'])
    })
    const server = await serve()
    const clone = join(root, 'clone')
    await git(['init', '--quiet', clone])
    await git(['fetch', '--quiet', '--depth', '1', `${server.url}/demo.git`, repository.head], { cwd: clone })
    expect(await git(['show', 'FETCH_HEAD:a.txt'], { cwd: clone })).toBe('two')
  })

  it('asks for the password, and refuses another', async () => {
    const server = await serve({ auth: AUTH })
    const as = (password: string) => server.url.replace('//', `//${AUTH.username}:${password}@`)
    await git(['ls-remote', `${as(AUTH.password)}/demo.git`])
    await expect(git(['ls-remote', `${as('wrong')}/demo.git`])).rejects.toThrow(/Authentication failed/)
    await expect(git(['ls-remote', `${server.url}/demo.git`])).rejects.toThrow(/ended with 128/)
    expect(server.requests.map(({ status }) => status)).toContain(401)
  })

  it('takes pushes, and packs that are sent in chunks', async () => {
    const server = await serve()
    const clone = join(root, 'clone')
    await git(['clone', '--quiet', `${server.url}/demo.git`, clone])
    await git(['commit', '--quiet', '--allow-empty', '-m', 'pushed'], { cwd: clone })
    await git(['-c', 'http.postBuffer=1', 'push', '--quiet', 'origin', 'HEAD:refs/heads/pushed'], {
      cwd: clone,
    })
    expect(await repository.git(['log', '-1', '--format=%s', 'pushed'])).toBe('pushed')
  })

  it('serves many at once', async () => {
    await createRepository({ root, name: 'large', files: manyFiles(500) })
    const server = await serve()
    const clone = (index: number) =>
      git(['clone', '--quiet', `${server.url}/large.git`, join(root, `clone-${index}`)])
    await Promise.all(Array.from({ length: 8 }, (_, index) => clone(index)))
    expect(await readFile(join(root, 'clone-7/folder-4/file-499.txt'), 'utf8')).toContain('file 499')
  })

  it('answers 404 for what is not there', async () => {
    const server = await serve()
    expect((await fetch(`${server.url}/none.git/info/refs?service=git-upload-pack`)).status).toBe(404)
    expect((await fetch(`${server.url}/%zz`)).status).toBe(404)
  })

  it('closes while it is being read', async () => {
    await createRepository({ root, name: 'large', files: { blob: randomBytes(8 * 1024 * 1024) } })
    const server = await serve()
    const clone = git(['clone', '--quiet', `${server.url}/large.git`, join(root, 'clone')]).catch(
      (error: unknown) => error,
    )
    await server.close()
    await clone
    await expect(fetch(server.url)).rejects.toThrow()
  })
})
