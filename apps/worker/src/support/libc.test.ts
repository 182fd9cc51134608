import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { allocate, MOUNT, makeFifo, mount, nextData, unmount } from './libc.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agirunner-libc-'))
})
afterEach(async () => {
  await unmount(folder, { detach: true }).catch(() => undefined)
  rmSync(folder, { recursive: true, force: true })
})

describe('calls of the C library', () => {
  it('mount a file system as they are told, and take it away', async () => {
    await mount('tmpfs', folder, { type: 'tmpfs', flags: MOUNT.noExec, data: 'size=1m,mode=0711' })
    expect(statSync(folder).mode & 0o777).toBe(0o711)
    writeFileSync(join(folder, 'inside'), '')
    await unmount(folder)
    expect(readdirSync(folder)).toEqual([])
  })

  it('tell by a code why they can’t, each its own', async () => {
    const missing = join(folder, 'missing')
    const wrong = [
      ...Array.from({ length: 20 }, () => [unmount(folder), 'EINVAL'] as const),
      ...Array.from({ length: 20 }, () => [unmount(missing), 'ENOENT'] as const),
    ]
    await Promise.all(wrong.map(([call, code]) => expect(call).rejects.toMatchObject({ code })))
    await expect(mount('none', missing, { type: 'tmpfs', flags: 0 })).rejects.toMatchObject({
      code: 'ENOENT',
      message: `mount tmpfs on ${missing}: ENOENT`,
    })
    await expect(mount('none', folder, { type: 'no-such', flags: 0 })).rejects.toMatchObject({
      code: 'ENODEV',
    })
  })

  it('say that a mount is in use, and leave it to its users where that is wanted', async () => {
    await mount('tmpfs', folder, { type: 'tmpfs', flags: 0 })
    const inner = join(folder, 'inner')
    mkdirSync(inner)
    await mount('tmpfs', inner, { type: 'tmpfs', flags: 0 })
    await expect(unmount(folder)).rejects.toMatchObject({ code: 'EBUSY' })
    await unmount(folder, { detach: true })
    expect(readdirSync(folder)).toEqual([])
  })

  it('find what was written in a sparse file', async () => {
    const file = await open(join(folder, 'sparse'), 'w+')
    try {
      await file.truncate(2 ** 30)
      await file.write('x', 2 ** 29)
      const data = await nextData(file.fd, 0)
      expect(data?.from).toBeLessThanOrEqual(2 ** 29)
      expect(data?.to).toBeGreaterThan(2 ** 29)
      expect(await nextData(file.fd, data?.to ?? 0)).toBeNull()
      await expect(nextData(-1, 0)).rejects.toMatchObject({ code: 'EBADF' })
      await allocate(file.fd, 2 ** 20)
      expect((await file.stat()).blocks * 512).toBeGreaterThanOrEqual(2 ** 20)
    } finally {
      await file.close()
    }
  })

  it('make a FIFO once', async () => {
    const path = join(folder, 'fifo')
    await makeFifo(path, 0o644)
    expect(statSync(path).isFIFO()).toBe(true)
    await expect(makeFifo(path, 0o644)).rejects.toMatchObject({ code: 'EEXIST' })
  })
})
