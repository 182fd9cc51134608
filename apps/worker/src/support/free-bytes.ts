import { statfs } from 'node:fs/promises'

/** What is free for this process on a folder's disk, in bytes. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}
