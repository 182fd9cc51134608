import { createWriteStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Artifact, formatSize, type TaskResult } from '@agirunner/contracts'
import type { Producer } from '@agirunner/producer'
import { type Call, type Command, JSON_OPTION } from '../command.js'
import { CliError, EXIT } from '../errors.js'
import { table } from '../output.js'

export const artifacts: Command = {
  usage: 'artifacts ID [PATH] [--out DIR] [--force] [--json]',
  summary: 'lists, prints or saves what a task left',
  details: [
    'Without PATH it lists them; with PATH, as listed, it prints its exact bytes to stdout. Also changes.patch,',
    'changes.bundle and log can be named. With --out they are saved below DIR, all of them or PATH alone.',
  ].join('\n'),
  options: {
    out: { type: 'string', value: 'DIR', help: 'save them below this folder, which is made' },
    force: { type: 'boolean', help: 'replace files that are there' },
    json: { ...JSON_OPTION, help: 'list them as one JSON array' },
  },
  takes: { min: 1, max: 2, name: 'the ID of a task and the PATH of an artifact' },
  async run(call) {
    const [id = '', path] = call.positionals
    const folder = call.option('out')
    if (folder !== undefined) return await save(call, id, path, folder)
    return path === undefined ? await list(call, id) : await print(call, id, path)
  },
}

async function list({ io, flag, producer }: Call, id: string): Promise<number> {
  const found = await resultOf(producer(), id)
  if (flag('json')) await io.out.line(JSON.stringify(found.artifacts))
  else for (const line of table([HEADING, ...found.artifacts.map(cellsOf)])) await io.out.line(line)
  if (found.skipped.length > 0)
    await io.err.line(`agirunner: ${found.skipped.length} left out; \`agirunner result ${id}\` names them`)
  return EXIT.ok
}

const HEADING = ['SIZE', 'TYPE', 'PATH']

/** A path is the task's to choose: nothing in it may act on a terminal. */
function cellsOf({ path, sizeBytes, mediaType }: Artifact): string[] {
  const shown = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(path) ? path : JSON.stringify(path)
  return [formatSize(sizeBytes), mediaType, shown]
}

async function print({ io, producer }: Call, id: string, path: string): Promise<number> {
  for await (const chunk of producer().artifact(id, path)) {
    await io.out.write(chunk)
    if (io.out.closed) break
  }
  return EXIT.ok
}

async function save(call: Call, id: string, path: string | undefined, folder: string): Promise<number> {
  const { io, flag, producer } = call
  const paths = path === undefined ? (await resultOf(producer(), id)).artifacts.map(one => one.path) : [path]
  for (const one of paths) {
    const target = targetOf(folder, one)
    await mkdir(dirname(target), { recursive: true })
    await write(producer(), { id, path: one, target, replace: flag('force') })
  }
  await io.err.line(`agirunner: ${paths.length} saved below ${folder}`)
  return EXIT.ok
}

async function write(
  producer: Producer,
  { id, path, target, replace }: { id: string; path: string; target: string; replace: boolean },
): Promise<void> {
  if (replace) await rm(target, { force: true })
  try {
    // Never through what is there: a link would lead elsewhere.
    await pipeline(producer.artifact(id, path), createWriteStream(target, { flags: 'wx', mode: 0o644 }))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST')
      throw new CliError(`${target} can't be saved; it is there already; --force replaces it`)
    // Half a file looks like a whole one.
    await rm(target, { force: true })
    throw error
  }
}

/** @throws CliError for a path that would lead out of the folder */
function targetOf(folder: string, path: string): string {
  const parts = path.split('/')
  if (parts.some(part => part === '' || part === '.' || part === '..' || part.includes('\0')))
    throw new CliError(
      `${JSON.stringify(path)} can't be saved; it is no plain path; print it to stdout instead`,
    )
  return join(folder, ...parts)
}

async function resultOf(producer: Producer, id: string): Promise<TaskResult> {
  const found = await producer.result(id)
  if (found) return found
  throw new CliError(
    `task ${id} has left nothing yet; it has not finished; wait for its result`,
    EXIT.unfinished,
  )
}
