import { lstatSync, type Stats } from 'node:fs'
import { chmod, chown, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Task, TaskFailure } from '@agirunner/contracts'
import { quoteConfig } from './git/fetch.js'
import { writableSide } from './layers.js'
import type { RepositoryLayers, Slot } from './plan.js'
import { type FileOwner, isRoot } from './slots.js'

type PlacedFile = Task['workspace']['files'][number]

/** What the task reads of itself. Secrets are only named in it. */
export async function writeContext(slot: Slot, task: Task): Promise<void> {
  const files = { 'task.json': task, 'input.json': task.input, 'context.json': task.context }
  await Promise.all(
    Object.entries(files).map(([name, value]) =>
      writeFile(join(slot.context, name), `${JSON.stringify(value, null, 2)}\n`, { mode: 0o444, flag: 'wx' }),
    ),
  )
}

/**
 * Writes the files of `workspace.files` where the task will find them.
 *
 * @returns the paths below `repo/`, relative to it
 * @throws TaskFailure `workspace.unsafe_tree` when a link or file of the repository is in the way
 */
export async function placeFiles(
  files: readonly PlacedFile[],
  slot: Slot,
  layers: RepositoryLayers,
  owner: FileOwner,
): Promise<string[]> {
  const placed: string[] = []
  for (const file of files) {
    const [top, ...rest] = file.path.split('/')
    const path = rest.join('/')
    if (top === 'repo') {
      await placeInRepository(file, path, layers, owner)
      placed.push(path)
    } else if (top === 'context') await placeIn(slot.context, file, path, owner)
    else await placeIn(slot.output, file, path, owner)
  }
  return placed
}

/** Into a folder in which only the worker has written so far. */
async function placeIn(root: string, file: PlacedFile, path: string, owner: FileOwner): Promise<void> {
  let folder = root
  for (const part of path.split('/').slice(0, -1)) {
    folder = join(folder, part)
    await makeFolder(folder, 0o755, owner, file)
  }
  await write(join(root, path), file, owner)
}

/** Component by component, because the repository decides what the folders on the way are. */
async function placeInRepository(
  file: PlacedFile,
  path: string,
  layers: RepositoryLayers,
  owner: FileOwner,
): Promise<void> {
  const side = writableSide(layers)
  const parts = path.split('/')
  for (let depth = 1; depth < parts.length; depth += 1) {
    const part = parts.slice(0, depth).join('/')
    const below = look(join(layers.lower, part))
    if (below && !below.isDirectory()) throw inTheWay(file, part)
    await makeFolder(join(side, part), below ? below.mode & 0o777 : 0o755, owner, file)
  }
  const target = look(join(layers.lower, path))
  if (target && !target.isFile()) throw inTheWay(file, path)
  if (layers.strategy === 'copy') await rm(join(side, path), { force: true })
  await write(join(side, path), file, owner)
}

function look(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null
}

async function makeFolder(path: string, mode: number, owner: FileOwner, file: PlacedFile): Promise<void> {
  const there = look(path)
  if (there?.isDirectory()) return
  if (there) throw inTheWay(file, path.slice(path.lastIndexOf('/') + 1))
  await mkdir(path, { mode })
  await chmod(path, mode)
  await give(path, owner)
}

async function write(target: string, file: PlacedFile, owner: FileOwner): Promise<void> {
  const bytes = file.base64 === undefined ? Buffer.from(file.text ?? '') : Buffer.from(file.base64, 'base64')
  try {
    await writeFile(target, bytes, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new TaskFailure('spec.invalid', `workspace.files names "${file.path}" twice`, {
      phase: 'workspace',
    })
  }
  await chmod(target, Number.parseInt(file.mode, 8))
  await give(target, owner)
}

async function give(path: string, owner: FileOwner): Promise<void> {
  if (isRoot()) await chown(path, owner.uid, owner.gid)
}

function inTheWay(file: PlacedFile, part: string): TaskFailure {
  return new TaskFailure(
    'workspace.unsafe_tree',
    `workspace.files can't write "${file.path}"; the repository has something else at "${part}"`,
    {
      phase: 'workspace',
      hint: 'choose another path in workspace.files',
    },
  )
}

/**
 * Makes the repository the task's own: its identity, and the placed files told to git as ignored. With an overlay these
 * are two files of the task's layer; the snapshot below stays as it is.
 */
export async function personalize(
  task: Task,
  layers: RepositoryLayers,
  placed: readonly string[],
  owner: FileOwner,
): Promise<void> {
  const { name, email } = task.workspace.identity
  const user = `[user]\n\tname = ${quoteConfig(name)}\n\temail = ${quoteConfig(email)}\n`
  await appendInGit('config', user, layers, owner)
  const lines = placed.filter(path => !path.includes('\n')).map(path => `/${escapePattern(path)}\n`)
  if (lines.length > 0) await appendInGit('info/exclude', lines.join(''), layers, owner)
}

async function appendInGit(
  name: string,
  text: string,
  layers: RepositoryLayers,
  owner: FileOwner,
): Promise<void> {
  const target = join(writableSide(layers), '.git', name)
  if (layers.strategy !== 'copy') {
    for (const folder of ['.git', dirname(join('.git', name))])
      await ensureFolder(join(layers.upper, folder), owner)
    await copyFile(join(layers.lower, '.git', name), target)
    await give(target, owner)
  }
  await writeFile(target, (await readFile(target, 'utf8')) + text)
}

/** A plain folder in the upper layer is merged with the one below. */
async function ensureFolder(path: string, owner: FileOwner): Promise<void> {
  if (look(path)) return
  await mkdir(path, { mode: 0o755 })
  await give(path, owner)
}

/** For an ignore file: nothing of a name means anything but itself. */
function escapePattern(path: string): string {
  return path
    .replace(/[\\*?[\]!#]/g, String.raw`\$&`)
    .replace(/ +$/, spaces => String.raw`\ `.repeat(spaces.length))
}
