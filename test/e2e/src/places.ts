import { execFile } from 'node:child_process'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { dumpRedis, processTree } from '@agirunner/test-kit'
import { startBoard } from './board/board.js'

/** Something that a secret could be found in: what it is called, and what it holds. */
export type Place = readonly [name: string, content: Uint8Array | string]

const run = promisify(execFile)
const LARGE = { encoding: 'buffer', maxBuffer: 2 ** 28 } as const

/** Every key of a Redis. */
export async function redisPlaces(url: string): Promise<Place[]> {
  return [...(await dumpRedis(url))].map(([key, content]) => [`redis key ${key}`, content])
}

/** Every file below a folder, with its name, and where links lead; what goes meanwhile is left out. */
export async function folderPlaces(folder: string): Promise<Place[]> {
  const names = await readdir(folder).catch(() => [])
  const places = await Promise.all(names.map(name => pathPlaces(join(folder, name)).catch(() => [])))
  return places.flat()
}

async function pathPlaces(path: string): Promise<Place[]> {
  const stats = await lstat(path)
  const name: Place = [`name of ${path}`, path]
  if (stats.isDirectory()) return [name, ...(await folderPlaces(path))]
  if (stats.isSymbolicLink()) return [name, [`link ${path}`, await readlink(path)]]
  return stats.isFile() ? [name, [`file ${path}`, await readFile(path)]] : [name]
}

/**
 * Arguments and environment of a process and its descendants.
 *
 * @param but entries of the first process's own environment that are there by design
 */
export async function processPlaces(pid: number, but: readonly string[] = []): Promise<Place[]> {
  return (await processTree(pid)).flatMap(one => [
    ...one.argv.map((argument): Place => [`argument of ${one.pid}, ${one.argv[0]}`, argument]),
    ...one.environ
      .filter(entry => one.pid !== pid || !but.includes(entry))
      .map((entry): Place => [`environment of ${one.pid}, ${one.argv[0]}`, entry]),
  ])
}

/** What the engine tells of a container and of the volumes that it mounts. */
export async function inspectPlaces(container: string): Promise<Place[]> {
  const { stdout } = await run('docker', ['inspect', container], LARGE)
  const [{ Mounts: mounts }] = JSON.parse(stdout.toString()) as [{ Mounts: { Name?: string }[] }]
  const volumes = mounts.flatMap(({ Name: name }) => name ?? [])
  const places: Place[] = [[`docker inspect ${container}`, stdout]]
  for (const volume of volumes) {
    places.push([
      `docker inspect ${volume}`,
      (await run('docker', ['volume', 'inspect', volume], LARGE)).stdout,
    ])
  }
  return places
}

/** What a task can see from inside: its files, every object of its repository, all processes, its environment. */
export async function insidePlaces(container: string): Promise<Place[]> {
  const questions = {
    files: 'tar -cf - /workspace /tmp /run /dev/shm 2>/dev/null',
    config: 'git -C /workspace/repo config --list; cat /workspace/repo/.git/config',
    objects: 'git -C /workspace/repo cat-file --batch-all-objects --batch',
    environment: 'env',
    processes: 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mountinfo 2>/dev/null',
  }
  const ask = async ([what, script]: [string, string]): Promise<Place> => {
    const { stdout } = await run('docker', ['exec', container, 'sh', '-c', `${script}; true`], LARGE)
    return [`${what} inside`, stdout]
  }
  return await Promise.all(Object.entries(questions).map(ask))
}

/** What the operators' board answers on jobs. */
export async function boardPlaces(redisUrl: string, queue: string, ids: readonly string[]): Promise<Place[]> {
  const board = await startBoard(redisUrl, queue)
  try {
    const authorization = `Basic ${Buffer.from(`${board.user}:${board.password}`).toString('base64')}`
    const pages = [`/queues/api/queues?activeQueue=${queue}&status=latest&page=1&jobsPerPage=100`]
    for (const id of ids)
      pages.push(`/queues/api/queues/${queue}/${id}`, `/queues/api/queues/${queue}/${id}/logs`)
    return await Promise.all(pages.map(page => boardPage(board.url + page, authorization)))
  } finally {
    await board.stop()
  }
}

async function boardPage(url: string, authorization: string): Promise<Place> {
  const answer = await fetch(url, { headers: { authorization } })
  if (!answer.ok) throw new Error(`the board answered ${answer.status} to ${url}`)
  return [`board ${url}`, await answer.text()]
}
