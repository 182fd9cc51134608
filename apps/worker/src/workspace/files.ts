import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  type Stats,
  writeFileSync,
} from 'node:fs'
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Task, TaskFailure } from '@agirunner/contracts'
import { quoteConfig } from './git/git-folder.js'
import { writableSide } from './layers.js'
import type { RepositoryLayers, Slot } from './plan.js'
import { type FileOwner, isRoot } from './slots.js'

/** A file that the platform puts into a workspace. */
export interface Placing {
  /** Below repo/, context/ or output/. */
  readonly path: string
  readonly mode: number
  /** The task's key that names it, for messages. */
  readonly key: string
  /** Makes the file, failing with EEXIST where something is. */
  readonly write: (target: string) => Promise<void>
}

/** The files of `workspace.files`, whose bytes are in the task. */
export function placingsOf(files: Task['workspace']['files']): Placing[] {
  return files.map(({ path, mode, base64, text }) => {
    const bytes = base64 === undefined ? Buffer.from(text ?? '') : Buffer.from(base64, 'base64')
    return {
      path,
      mode: Number.parseInt(mode, 8),
      key: 'workspace.files',
      write: target => writeFile(target, bytes, { flag: 'wx', mode: 0o600 }),
    }
  })
}

const NEWLINE = 10
/** A larger config or list of excludes is left as it is. */
const MAX_GIT_FILE_BYTES = 2 ** 20

/** What the task reads of itself. Secrets are only named in it. */
export function writeContext(slot: Slot, task: Task): void {
  const files = { 'task.json': task, 'input.json': task.input, 'context.json': task.context }
  for (const [name, value] of Object.entries(files)) {
    const text = `${JSON.stringify(value, null, 2)}\n`
    writeFileSync(join(slot.context, name), text, { mode: 0o444, flag: 'wx' })
  }
}

/**
 * Writes files where the task will find them.
 *
 * @returns the paths below `repo/`, relative to it
 * @throws TaskFailure `workspace.unsafe_tree` when a link or file of the repository is in the way, `spec.invalid` for
 * a path that is named twice
 */
export async function placeFiles(
  files: readonly Placing[],
  slot: Slot,
  layers: RepositoryLayers,
  owner: FileOwner,
): Promise<string[]> {
  const placed: string[] = []
  const seen = new Set<string>()
  for (const file of files) {
    // Seen here: a file of the repository's is replaced, and so would one be that was placed there before.
    if (seen.has(file.path)) throw namedTwice(file)
    seen.add(file.path)
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
async function placeIn(root: string, file: Placing, path: string, owner: FileOwner): Promise<void> {
  let folder = root
  for (const part of path.split('/').slice(0, -1)) {
    folder = join(folder, part)
    await makeFolder(folder, 0o755, owner, file)
  }
  await write(join(root, path), file, owner)
}

/** Component by component, because the repository decides what the folders on the way are. */
async function placeInRepository(
  file: Placing,
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
  if (target && layers.strategy === 'copy') await rm(join(side, path), { force: true })
  await write(join(side, path), file, owner)
}

function look(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null
}

async function makeFolder(path: string, mode: number, owner: FileOwner, file: Placing): Promise<void> {
  const there = look(path)
  if (there?.isDirectory()) return
  if (there) throw inTheWay(file, path.slice(path.lastIndexOf('/') + 1))
  await mkdir(path, { mode })
  await chmod(path, mode)
  await give(path, owner)
}

async function write(target: string, file: Placing, owner: FileOwner): Promise<void> {
  try {
    await file.write(target)
  } catch (error) {
    // A folder that another placed file needed.
    throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? inTheWay(file, file.path) : error
  }
  await chmod(target, file.mode)
  await give(target, owner)
}

async function give(path: string, owner: FileOwner): Promise<void> {
  if (isRoot()) await chown(path, owner.uid, owner.gid)
}

function namedTwice(file: Placing): TaskFailure {
  return new TaskFailure('spec.invalid', `${file.key} names "${file.path}" twice`, { phase: 'workspace' })
}

function inTheWay(file: Placing, part: string): TaskFailure {
  return new TaskFailure(
    'workspace.unsafe_tree',
    `${file.key} can't write "${file.path}"; the repository has something else at "${part}"`,
    {
      phase: 'workspace',
      hint: `choose another path in ${file.key}`,
    },
  )
}

/**
 * Makes the repository the task's own: its identity, and the placed files told to git as ignored. With an overlay these
 * are two files of the task's layer; the snapshot below stays as it is. A folder of the host may hold anything by the
 * name of `.git`, or nothing: only plain files that are there, in plain folders, are added to.
 */
export function personalize(
  task: Task,
  layers: RepositoryLayers,
  placed: readonly string[],
  owner: FileOwner,
): void {
  const { name, email } = task.workspace.identity
  const user = `[user]\n\tname = ${quoteConfig(name)}\n\temail = ${quoteConfig(email)}\n`
  appendInGit('config', user, layers, owner)
  const lines = placed.filter(path => !path.includes('\n')).map(path => `/${escapePattern(path)}\n`)
  if (lines.length > 0) appendInGit('info/exclude', lines.join(''), layers, owner)
}

function appendInGit(name: string, text: string, layers: RepositoryLayers, owner: FileOwner): void {
  const path = join('.git', name)
  const folders: { folder: string; mode: number }[] = []
  for (const folder of new Set(['.git', dirname(path)])) {
    const stat = look(join(layers.lower, folder))
    if (!stat?.isDirectory()) return
    folders.push({ folder, mode: stat.mode })
  }
  const below = look(join(layers.lower, path))
  if (!below?.isFile() || below.size > MAX_GIT_FILE_BYTES) return
  const target = join(writableSide(layers), path)
  if (layers.strategy !== 'copy') {
    for (const { folder, mode } of folders) ensureFolder(join(layers.upper, folder), mode, owner)
    copyFileSync(join(layers.lower, path), target)
    giveSync(target, owner)
  }
  const isLineOpen = below.size > 0 && readFileSync(target).at(-1) !== NEWLINE
  appendFileSync(target, isLineOpen ? `\n${text}` : text)
}

/** A plain folder in the upper layer is merged with the one below. */
function ensureFolder(path: string, mode: number, owner: FileOwner): void {
  if (look(path)) return
  mkdirSync(path)
  chmodSync(path, mode & 0o777)
  giveSync(path, owner)
}

function giveSync(path: string, owner: FileOwner): void {
  if (isRoot()) chownSync(path, owner.uid, owner.gid)
}

/** For an ignore file: nothing of a name means anything but itself. */
function escapePattern(path: string): string {
  return path
    .replace(/[\\*?[\]!#]/g, String.raw`\$&`)
    .replace(/ +$/, spaces => String.raw`\ `.repeat(spaces.length))
}
