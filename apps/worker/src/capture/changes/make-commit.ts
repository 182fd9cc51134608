import { mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { writeBundle } from '../../workspace/git/bundle.js'
import { renderCommit, type Signature } from '../../workspace/git/commit-object.js'
import { EMPTY_TREE, hashObject, type ObjectType } from '../../workspace/git/objects.js'
import { PackBuilder } from '../../workspace/git/pack-builder.js'
import type { BaseObject, BaseTree } from './base-tree.js'
import type { Change, Entry } from './change.js'
import { secretSearch, type ToldSecret } from './told-secrets.js'

/** A pack, and so a bundle, may be this large, in bytes. */
const MAX_PACK_BYTES = 2 ** 30

/** How the change of a task becomes a commit. */
export interface CommitRequest {
  readonly by: Signature
  readonly message: string
  /** The full name of the ref that the bundle holds it as. */
  readonly ref: string
  /** Where to write the pack of its objects: a path in a folder of its own. */
  readonly pack: string
  /** Where to write the bundle; null where none is asked for. */
  readonly bundle: string | null
  /** What must not be in it, in base64, by name. */
  readonly secrets: readonly ToldSecret[]
}

/** One commit on top of the base, with everything that whoever has the base lacks. */
export interface MadeCommit {
  readonly sha: string
  /** Null for a commit without a parent. */
  readonly parent: string | null
  /** Null where none was asked for, or a secret is in it. */
  readonly bundle: { readonly sizeBytes: number; readonly sha256: string } | null
  /** Whether one of the task's secrets, in any form, is in what the commit brings. */
  readonly holdsSecret: boolean
}

export interface ChangeToCommit {
  readonly base: BaseTree
  /** The base's commit; null where there is none. */
  readonly commit: string | null
  readonly changes: readonly Change[]
  /** The tree after the changes, and the trees that are new in it. */
  readonly tree: string
  readonly trees: ReadonlyMap<string, Buffer>
  /** The bytes of a path as they were compared. @throws Error when they are others now */
  readonly content: (path: string, entry: Entry) => Buffer
}

/**
 * Makes the commit of a change: its objects as a pack, and that in a bundle. No git runs, and nothing of the task's own
 * repository is used: trees and files are those that the patch was checked against.
 *
 * @throws Error when it would be larger than 1 GiB
 */
export function makeCommit(request: CommitRequest, change: ChangeToCommit): MadeCommit {
  const { by, message, ref, bundle } = request
  mkdirSync(dirname(request.pack), { recursive: true, mode: 0o700 })
  rmSync(request.pack, { force: true })
  const pack = new CheckedPack(request.pack, request.secrets)
  try {
    const own = change.base.objects()
    const parent = own === null ? change.commit : putBase(pack, change.base.root, own, by)
    const data = renderCommit({ tree: change.tree, parents: parent === null ? [] : [parent], by, message })
    const sha = pack.add('commit', data)
    for (const [oid, tree] of change.trees) pack.once(oid, 'tree', () => tree)
    if (change.tree === EMPTY_TREE) pack.once(EMPTY_TREE, 'tree', () => Buffer.alloc(0))
    putFiles(pack, change)
    const { holdsSecret } = pack.end()
    const prerequisite = own === null ? change.commit : null
    const refs = [
      [ref, sha],
      ['HEAD', sha],
    ] as const
    const written =
      bundle === null || holdsSecret
        ? null
        : writeBundle({ path: bundle, pack: request.pack, prerequisite, refs })
    return { sha, parent, bundle: written, holdsSecret }
  } finally {
    pack.close()
  }
}

/** A base that is no commit of anybody's becomes one: the change is then a commit on top of it, and all is in one place. */
function putBase(pack: CheckedPack, tree: string, objects: Iterable<BaseObject>, by: Signature): string {
  for (const object of objects) pack.once(object.oid, object.type, () => object.read())
  return pack.add('commit', renderCommit({ tree, parents: [], by, message: 'Before the task' }))
}

function putFiles(pack: CheckedPack, { changes, content }: ChangeToCommit): void {
  // What the base has at any changed path need not be sent: a file that only moved, or changed its mode.
  const known = new Set(changes.flatMap(({ before }) => before?.oid ?? []))
  for (const { path, after } of changes) {
    if (after && !known.has(after.oid)) pack.once(after.oid, 'blob', () => content(path, after))
  }
}

/** A pack in which each object is once, and what it brings is looked through for secrets. */
export class CheckedPack {
  readonly #builder: PackBuilder
  readonly #holdsSecret: (bytes: Buffer) => boolean
  readonly #known = new Set<string>()
  #found = false

  constructor(path: string, secrets: CommitRequest['secrets']) {
    this.#builder = new PackBuilder(path, MAX_PACK_BYTES)
    this.#holdsSecret = secretSearch(secrets)
  }

  has(oid: string): boolean {
    return this.#known.has(oid)
  }

  /** Adds an object unless it is there. */
  once(oid: string, type: ObjectType, read: () => Buffer): void {
    if (!this.#known.has(oid)) this.#put(oid, type, read())
  }

  /** @returns its id */
  add(type: ObjectType, data: Buffer): string {
    const oid = hashObject(type, data)
    this.once(oid, type, () => data)
    return oid
  }

  end(): { objects: number; holdsSecret: boolean } {
    return { objects: this.#builder.end(), holdsSecret: this.#found }
  }

  close(): void {
    this.#builder.close()
  }

  #put(oid: string, type: ObjectType, data: Buffer): void {
    this.#known.add(oid)
    this.#builder.add(type, data)
    this.#found ||= this.#holdsSecret(data)
  }
}
