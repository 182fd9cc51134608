import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { git } from './git.js'

/** What a file of a repository holds: its text or bytes, those with a mode such as 0o755, or a symbolic link's target. */
export type FileContent =
  | string
  | Uint8Array
  | { readonly content: string | Uint8Array; readonly mode: number }
  | { readonly symlink: string }
/** Paths relative to the repository's root. */
export type Files = Readonly<Record<string, FileContent>>

export interface RepositoryOptions {
  /** The folder to put it into; the one that `serveGit` serves. */
  readonly root: string
  /** Its name without `.git`. */
  readonly name: string
  /** The files of its only commit, "first" on main. */
  readonly files?: Files
  /** Builds a longer history. */
  readonly build?: (repository: RepositoryBuilder) => Promise<void>
}

/** A work tree beside the bare repository, there while a `build` runs. */
export interface RepositoryBuilder {
  /** The work tree. */
  readonly path: string
  /** Writes files, replacing what is there, whatever it was. */
  write(files: Files): Promise<void>
  remove(...paths: string[]): Promise<void>
  /** Commits everything in the work tree, even when nothing changed; the dates are one minute apart. */
  commit(message: string): Promise<string>
  /** Makes a branch here and switches to it. */
  branch(name: string): Promise<void>
  checkout(ref: string): Promise<void>
  /** Tags this commit; annotated when there is a message. */
  tag(name: string, message?: string): Promise<void>
  /** Anything else. */
  git(args: readonly string[]): Promise<string>
}

export interface Repository {
  /** The bare repository. */
  readonly path: string
  readonly name: string
  /** Every commit that `build` made, oldest first. */
  readonly commits: readonly string[]
  /** The last of them. */
  readonly head: string
  /** Goes on with the history, from where HEAD points. */
  change(build: (repository: RepositoryBuilder) => Promise<void>): Promise<void>
  /** Runs git on the bare repository. */
  git(args: readonly string[]): Promise<string>
}

const FIRST_COMMIT_SECONDS = 1_700_000_000

/**
 * Makes a bare repository with a real history, by the real git. The same calls give the same commit ids everywhere.
 *
 * @example
 * const repository = await createRepository({ root, name: 'demo', files: { 'run.sh': { content: 'true\n', mode: 0o755 } } })
 * repository.head // its commit
 */
export async function createRepository({ root, name, files, build }: RepositoryOptions): Promise<Repository> {
  const path = join(root, `${name}.git`)
  const commits: string[] = []
  await git(['init', '--quiet', '--bare', path])
  const change: Repository['change'] = more => buildIn(path, commits, more)
  await change(async repository => {
    if (files) await repository.write(files)
    if (files) await repository.commit('first')
    await build?.(repository)
  })
  return {
    path,
    name,
    commits,
    change,
    get head() {
      return commits.at(-1) ?? ''
    },
    git: args => git(args, { cwd: path }),
  }
}

async function buildIn(
  bare: string,
  commits: string[],
  build: (repository: RepositoryBuilder) => Promise<void>,
): Promise<void> {
  const tree = await mkdtemp(join(tmpdir(), 'agirunner-repository-'))
  try {
    const repository = builder(bare, tree, commits)
    if (commits.length > 0) await repository.git(['reset', '--quiet', '--hard'])
    await build(repository)
  } finally {
    await rm(tree, { recursive: true, force: true })
    await rm(join(bare, 'index'), { force: true })
  }
}

function builder(bare: string, tree: string, commits: string[]): RepositoryBuilder {
  const run = (args: readonly string[], env = {}) =>
    git(args, { cwd: tree, env: { GIT_DIR: bare, GIT_WORK_TREE: tree, ...env } })
  return {
    path: tree,
    git: run,
    write: files => writeFiles(tree, files),
    remove: async (...paths) => {
      for (const path of paths) await rm(join(tree, path), { recursive: true })
    },
    commit: async message => {
      await run(['add', '--all', '--force'])
      const date = `${FIRST_COMMIT_SECONDS + commits.length * 60} +0000`
      await run(['commit', '--quiet', '--allow-empty', '--message', message], {
        GIT_AUTHOR_DATE: date,
        GIT_COMMITTER_DATE: date,
      })
      const id = await run(['rev-parse', 'HEAD'])
      commits.push(id)
      return id
    },
    branch: async name => void (await run(['checkout', '--quiet', '-b', name])),
    checkout: async ref => void (await run(['checkout', '--quiet', ref])),
    tag: async (name, message) =>
      void (await run(
        message === undefined ? ['tag', name] : ['tag', '--annotate', '--message', message, name],
      )),
  }
}

async function writeFiles(tree: string, files: Files): Promise<void> {
  for (const [path, file] of Object.entries(files)) {
    const target = join(tree, path)
    await mkdir(dirname(target), { recursive: true })
    await rm(target, { recursive: true, force: true })
    await writeOne(target, file)
  }
}

async function writeOne(target: string, file: FileContent): Promise<void> {
  if (typeof file === 'string' || file instanceof Uint8Array) return await writeFile(target, file)
  if ('symlink' in file) return await symlink(file.symlink, target)
  await writeFile(target, file.content)
  await chmod(target, file.mode)
}

/**
 * Files for a repository of a given size: text that is different in each, 100 to a folder.
 *
 * @param count how many
 * @param bytes how large each is
 */
export function manyFiles(count: number, bytes = 200): Files {
  const files: Record<string, string> = {}
  for (let index = 0; index < count; index += 1) {
    const line = `file ${index}\n`
    files[`folder-${Math.floor(index / 100)}/file-${index}.txt`] = line
      .repeat(Math.ceil(bytes / line.length))
      .slice(0, bytes)
  }
  return files
}
