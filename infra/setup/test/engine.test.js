import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import { ensureEngine, ensureImage, findEngine, stopStartedEngine } from '../src/index.js'
import { recordedLog, temporaryFolders } from './support.js'

const newFolder = temporaryFolders()

/** @type {import('node:http').Server[]} */
const servers = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

/**
 * @param {string} socket
 * @param {import('node:http').RequestListener} listener
 */
async function serve(socket, listener) {
  const server = createServer(listener).listen(socket)
  servers.push(server)
  await once(server, 'listening')
  return server
}

/** @type {import('node:http').RequestListener} */
const likeDocker = (request, response) => {
  response.end(request.url === '/_ping' ? 'OK' : JSON.stringify({ Version: '9.9', Arch: 'amd64' }))
}

test('the engine that DOCKER_HOST names is used and never stopped', async () => {
  const folder = newFolder()
  const server = await serve(join(folder, 'docker.sock'), likeDocker)
  const { log, lines } = recordedLog()
  const host = `unix://${join(folder, 'docker.sock')}`
  const engine = await ensureEngine({ dataDir: folder, env: { DOCKER_HOST: host }, log })
  expect(engine).toMatchObject({ host, started: false, pid: null })
  await engine.stop()
  expect(await stopStartedEngine({ dataDir: folder, env: {}, log })).toBe(false)
  expect(server.listening).toBe(true)
  expect(lines).toEqual([`setup: engine: using Docker 9.9 on ${host}`])
})

test('a DOCKER_HOST where no engine answers is a failure, and nothing else is tried', async () => {
  const folder = newFolder()
  await serve(join(folder, 'odd.sock'), (_, response) => response.writeHead(500).end())
  const hosts = [
    'unix:///nonexistent.sock',
    'tcp://127.0.0.1:1',
    'ssh://x',
    `unix://${join(folder, 'odd.sock')}`,
  ]
  for (const host of hosts) {
    const error = await ensureEngine({ dataDir: folder, env: { DOCKER_HOST: host }, log: () => {} }).catch(
      e => e,
    )
    expect(error).toMatchObject({ code: 'engine.unreachable' })
    expect(error.message).toMatch(`no container engine answers at DOCKER_HOST=${host}; `)
  }
})

test("the sockets of a user's own engines are looked at too", async () => {
  const runtime = newFolder()
  mkdirSync(join(runtime, 'podman'))
  await serve(join(runtime, 'podman', 'podman.sock'), likeDocker)
  const { found } = await findEngine({ XDG_RUNTIME_DIR: runtime })
  // Where the machine has an engine on the default socket, that one comes first.
  expect([`unix://${join(runtime, 'podman', 'podman.sock')}`, 'unix:///var/run/docker.sock']).toContain(found)
})

test('only debian-base can be made', () => {
  const ask = () => ensureImage({ host: 'unix:///nonexistent', env: {}, log: () => {}, image: 'other' })
  expect(ask).toThrow(expect.objectContaining({ code: 'image.unknown' }))
})
