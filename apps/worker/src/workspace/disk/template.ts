import { type FileHandle, open, rm } from 'node:fs/promises'
import { nextData } from '../../support/libc.js'
import { runProgram } from '../../support/program.js'

/** The size of a file system and what it is divided into. */
export interface Layout {
  readonly bytes: number
  readonly blockBytes: number
  readonly inodes: number
}

/** What mkfs writes into a file of zeros. */
interface Template {
  readonly key: string
  readonly pieces: readonly { readonly at: number; readonly bytes: Buffer }[]
}

/** No journal, because nothing of it outlives a crash; nothing reserved, because no root shares it. */
const MKFS = ['-q', '-F', '-m', '0', '-I', '256']
const FEATURES = ['-O', '^has_journal,^resize_inode', '-E', 'lazy_itable_init=1,nodiscard']
/** Some 80 KiB of 2 GiB. What has more is not kept, and made anew each time. */
const MAX_BYTES = 2 * 2 ** 20
/** Most workers see one or two layouts. */
const MAX_TEMPLATES = 4

const templates: Template[] = []

/**
 * Writes an empty ext4 into a file of zeros. mkfs makes the first one of a layout, and the others get what it wrote: to
 * start a program holds the whole worker up for longer than all else about a disk. That all have one UUID is of no
 * matter: nothing looks for them by that.
 *
 * @param file holds as many bytes as the layout
 * @throws Error with what mkfs says
 */
export async function format(file: string, layout: Layout): Promise<void> {
  const key = [layout.bytes, layout.blockBytes, layout.inodes].join()
  const template = templates.find(one => one.key === key) ?? (await make(`${file}.empty`, layout, key))
  if (template === null) return await mkfs(file, layout)
  const handle = await open(file, 'r+')
  try {
    for (const { at, bytes } of template.pieces) await handle.write(bytes, 0, bytes.length, at)
  } finally {
    await handle.close()
  }
}

/** @param path of a sparse file that is made for this, so that the kernel tells where mkfs wrote @returns null for too much */
async function make(path: string, layout: Layout, key: string): Promise<Template | null> {
  const handle = await open(path, 'wx+', 0o600)
  try {
    await handle.truncate(layout.bytes)
    await mkfs(path, layout)
    const pieces = await read(handle)
    if (pieces === null) return null
    const template = { key, pieces }
    templates.unshift(template)
    templates.length = Math.min(templates.length, MAX_TEMPLATES)
    return template
  } finally {
    await handle.close()
    await rm(path, { force: true })
  }
}

async function mkfs(file: string, { blockBytes, inodes }: Layout): Promise<void> {
  const sizes = ['-b', String(blockBytes), '-N', String(inodes)]
  await runProgram('mkfs.ext4', [...MKFS, ...FEATURES, ...sizes, file])
}

async function read(handle: FileHandle): Promise<Template['pieces'] | null> {
  const pieces: { at: number; bytes: Buffer }[] = []
  let sum = 0
  for (let data = await nextData(handle.fd, 0); data !== null; data = await nextData(handle.fd, data.to)) {
    const { from, to } = data
    sum += to - from
    if (sum > MAX_BYTES) return null
    const bytes = Buffer.alloc(to - from)
    await handle.read(bytes, 0, bytes.length, from)
    pieces.push({ at: from, bytes })
  }
  return pieces
}
