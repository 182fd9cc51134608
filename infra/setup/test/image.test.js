import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { BASE_IMAGE, ensureImage } from '../src/index.js'
import { packTar } from '../src/tar.js'
import { recordedLog, temporaryFolders } from './support.js'

const newFolder = temporaryFolders()

/**
 * An engine that has no image until it has built one from a context with these files.
 * @param {string} folder
 * @param {{failure?: string}} [options]
 */
async function emptyEngine(folder, { failure } = {}) {
  /** @type {string[]} */
  const calls = []
  let built = false
  const server = createServer((request, response) => {
    calls.push(`${request.method} ${request.url?.split('?')[0]}`)
    if (request.url?.startsWith('/build')) {
      request.pipe(createWriteStream(join(folder, 'context.tar'))).once('close', () => {
        built = failure === undefined
        response.end(
          `{"stream":"Step 1"}\n${JSON.stringify(failure ? { error: failure } : { stream: 'done' })}\n`,
        )
      })
    } else if (request.url === '/version') response.end('{"Version":"1","Arch":"none"}')
    else response.writeHead(built ? 200 : 404).end('{"Id":"sha256:1"}')
  }).listen(join(folder, 'docker.sock'))
  await once(server, 'listening')
  return { calls, server, host: `unix://${join(folder, 'docker.sock')}` }
}

test('where packages can not serve, the engine builds it from the Dockerfile with all its files', async () => {
  const folder = newFolder()
  const { calls, server, host } = await emptyEngine(folder)
  const env = { PATH: '', AGIRUNNER_NO_INSTALL: '1' }
  const image = await ensureImage({ host, env, log: () => {}, dataDir: folder })
  server.close()
  expect(image).toEqual({ reference: BASE_IMAGE, id: 'sha256:1' })
  expect(calls).toContain('POST /build')
  const { stdout } = spawnSync('tar', ['tvf', join(folder, 'context.tar')], { encoding: 'utf8' })
  expect(stdout.split('\n').map(line => line.split(' ').at(-1))).toEqual([
    'Dockerfile',
    'packages',
    'customize.sh',
    '',
  ])
})

test('when every way fails, the failure tells each of them; a build that fails inside its stream is one', async () => {
  const folder = newFolder()
  const { server, host } = await emptyEngine(folder, { failure: 'no such base' })
  const env = { PATH: '', AGIRUNNER_NO_INSTALL: '1' }
  const error = await ensureImage({ host, env, log: recordedLog().log, dataDir: folder }).catch(e => e)
  server.close()
  expect(error).toMatchObject({ code: 'image.build_failed' })
  expect(error.message).toMatch('AGIRUNNER_BASE_IMAGE_PULL names no image')
  expect(error.message).toMatch('AGIRUNNER_NO_INSTALL forbids installing')
  expect(error.message).toMatch('no such base')
})

test('the archive writer writes what tar reads', () => {
  const archive = packTar([
    { name: 'a', content: Buffer.from('x'.repeat(512)) },
    { name: 'b/c', content: Buffer.from('é'), mode: 0o755 },
  ])
  const listed = spawnSync('tar', ['xOf', '-', 'b/c'], { input: archive, encoding: 'utf8' })
  expect(listed).toMatchObject({ status: 0, stdout: 'é', stderr: '' })
})
