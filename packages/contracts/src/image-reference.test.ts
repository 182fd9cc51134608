import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import { DEFAULT_IMAGE, readCatalog } from './catalog.js'
import { parseImageReference } from './image-reference.js'
import { parseTask } from './task.js'

const DIGEST = `sha256:${'0a'.repeat(32)}`

describe('parseImageReference', () => {
  it.each([
    ['debian', 'docker.io', 'library/debian', 'debian:latest'],
    ['debian:12', 'docker.io', 'library/debian', 'debian:12'],
    ['docker.io/debian', 'docker.io', 'library/debian', 'debian:latest'],
    ['index.docker.io/acme/app:1', 'docker.io', 'acme/app', 'acme/app:1'],
    ['docker.io/library/debian', 'docker.io', 'library/debian', 'debian:latest'],
    ['acme/app', 'docker.io', 'acme/app', 'acme/app:latest'],
    ['localhost/app', 'localhost', 'app', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000', 'app', 'localhost:5000/app:latest'],
    ['127.0.0.1:5000/a/b/c:v1.2_3-x', '127.0.0.1:5000', 'a/b/c', '127.0.0.1:5000/a/b/c:v1.2_3-x'],
    ['[::1]:5000/app:1', '[::1]:5000', 'app', '[::1]:5000/app:1'],
    ['ghcr.io/acme/my__app.x', 'ghcr.io', 'acme/my__app.x', 'ghcr.io/acme/my__app.x:latest'],
    [`acme/app@${DIGEST}`, 'docker.io', 'acme/app', `acme/app@${DIGEST}`],
    [`acme/app:1@${DIGEST}`, 'docker.io', 'acme/app', `acme/app@${DIGEST}`],
    // A tag of hex digits is no id.
    ['acme/app:04fbd6160b16', 'docker.io', 'acme/app', 'acme/app:04fbd6160b16'],
    ['04fbd6160b16', 'docker.io', 'library/04fbd6160b16', '04fbd6160b16:latest'],
  ])('reads %s', (reference, registry, path, text) => {
    expect(parseImageReference(reference)).toMatchObject({ registry, path, text })
  })

  it.each([
    ['', 'lower-case'],
    ['Debian', 'lower-case'],
    ['acme/App', 'lower-case'],
    ['acme//app', 'lower-case'],
    ['acme/app/', 'lower-case'],
    ['-acme/app', 'lower-case'],
    ['acme/../app', 'lower-case'],
    ['acme/app:', 'tag'],
    ['acme/app:-x', 'tag'],
    [`acme/app:${'x'.repeat(129)}`, 'tag'],
    ['acme/app@sha256:12', 'hex'],
    [`acme/app@${DIGEST}@${DIGEST}`, 'hex'],
    [`acme/app@${DIGEST.toUpperCase()}`, 'hex'],
    ['http://registry.example/app', 'host'],
    ['user:pass@registry.example/app', 'hex'],
    ['exa mple.com/app', 'host'],
    ['host:port/app', 'host'],
    ['a%2f..%2f:1', 'lower-case'],
    ['a'.repeat(300), 'long'],
    ['0a'.repeat(32), 'id'],
    [DIGEST, 'id'],
    ['sha256:04fbd6160b16', 'id'],
  ])('refuses %s', (reference, why) => {
    expect(() => parseImageReference(reference)).toThrow(why)
  })
})

describe('the catalog', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agirunner-catalog-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  const read = (content: unknown) => {
    const file = join(folder, 'catalog.json')
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
    return readCatalog(file)
  }

  it('has ten starters, one of them what tasks get by default', () => {
    const starters = readCatalog(null)
    expect([...starters.keys()].toSorted()).toEqual(
      ['alpine', 'debian', 'fedora', 'go', 'java', 'node', 'php', 'python', 'rust', 'ubuntu'].map(
        name => `${name}-base`,
      ),
    )
    const { image } = parseTask({ taskId: 't', run: { script: 'true' } }).environment
    expect([image, starters.has(image)]).toEqual([DEFAULT_IMAGE, true])
  })

  it('can be replaced', () => {
    const catalog = read({ mine: { image: 'registry.example/mine:1', description: 'Mine' } })
    expect([...catalog]).toEqual([
      ['mine', { image: 'registry.example/mine:1', description: 'Mine', holds: [] }],
    ])
  })

  it.each([
    ['no JSON', '{', /is no JSON/],
    ['a list', [], /expected record/],
    ['a name with a colon', { 'a:b': { image: 'a', description: 'a' } }, /a:b: must be lower-case/],
    ['no reference', { a: { image: 'No/Such', description: 'a' } }, /a\.image: is no image reference/],
    ['an unknown key', { a: { image: 'a', description: 'a', tag: '1' } }, /tag/],
    ['a missing text', { a: { image: 'a' } }, /a\.description/],
  ])('is refused with %s', (_what, content, problem) => {
    expect(() => read(content)).toThrow(problem)
  })

  it('is refused when it is not there', () => {
    expect(() => readCatalog(join(folder, 'none.json'))).toThrow('ENOENT')
  })
})

describe('a bootstrap', () => {
  it('keeps its names to itself', () => {
    const task = (name: string) => ({
      taskId: 't',
      environment: { bootstrap: ['true'] },
      run: { steps: [{ name, script: 'true' }] },
    })
    expect(() => parseTask(task('bootstrap 1'))).toThrow('environment.bootstrap')
    expect(parseTask(task('bootstrap 2')).run.steps).toHaveLength(1)
  })
})
