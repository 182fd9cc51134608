import { type FileHandle, open } from 'node:fs/promises'
import { ioctl } from '../../support/libc.js'

/** Of `<linux/loop.h>`. */
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LO_FLAGS_AUTOCLEAR = 4
/** `struct loop_config`: the file's descriptor, its block size, and a `struct loop_info64` with its flags and its name. */
const CONFIG_BYTES = 304
const FLAGS_AT = 8 + 52
const NAME_AT = 8 + 56
const NAME_BYTES = 63
/** Another process may take a device that is free between the two calls. */
const TRIES = 20

/**
 * Makes a file a block device for as long as `use` runs and what it mounts is mounted.
 *
 * @throws Error with the errno's name as its `code`, such as `EINVAL` from a kernel before Linux 5.8
 */
export async function withLoop(file: string, use: (device: string) => Promise<void>): Promise<void> {
  const control = await open('/dev/loop-control', 'r+')
  try {
    const image = await open(file, 'r+')
    try {
      const loop = await attach(control, image, file)
      try {
        await use(loop.path)
      } finally {
        // What is mounted holds the device from here on, and with the last of it the kernel lets go of the file.
        await loop.handle.close()
      }
    } finally {
      await image.close()
    }
  } finally {
    await control.close()
  }
}

async function attach(
  control: FileHandle,
  image: FileHandle,
  file: string,
): Promise<{ path: string; handle: FileHandle }> {
  for (let tries = 1; ; tries += 1) {
    const path = `/dev/loop${await ioctl(control.fd, LOOP_CTL_GET_FREE, 0)}`
    const handle = await open(path, 'r+')
    try {
      // All at once: to set the flags apart makes the kernel wait for another grace period, some ten milliseconds.
      await ioctl(handle.fd, LOOP_CONFIGURE, configOf(image.fd, file))
      return { path, handle }
    } catch (error) {
      await handle.close()
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || tries >= TRIES) throw error
    }
  }
}

function configOf(fd: number, file: string): Buffer {
  const config = Buffer.alloc(CONFIG_BYTES)
  config.writeUInt32LE(fd, 0)
  config.writeUInt32LE(LO_FLAGS_AUTOCLEAR, FLAGS_AT)
  // For people: it is what `losetup` shows.
  Buffer.from(file).subarray(0, NAME_BYTES).copy(config, NAME_AT)
  return config
}
