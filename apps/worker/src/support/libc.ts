import { getSystemErrorName } from 'node:util'

/** As in `<sys/mount.h>`. */
export const MOUNT = {
  readOnly: 1,
  noSuid: 2,
  noDev: 4,
  noExec: 8,
  noAtime: 1024,
  bind: 4096,
  private: 2 ** 18,
  shared: 2 ** 20,
} as const
const DETACH = 2
/** As in `<unistd.h>`. */
const SEEK_DATA = 3
const SEEK_HOLE = 4

type Argument = string | number | Buffer | null

interface Call {
  (...args: Argument[]): number
  async(...args: [...Argument[], done: (error: Error | null, status: number) => void]): void
}

interface Libc {
  readonly mount: Call
  readonly umount2: Call
  readonly mkfifo: Call
  readonly fallocate: Call
  readonly ioctl: Call
  readonly ioctlNumber: Call
  readonly lseek: Call
  readonly errno: () => number
}

let loading: Promise<Libc> | null = null

/**
 * What Node has no function for, called in the C library of this process: a program for each would be a fork of the worker,
 * which takes 14 ms on two cores, and the call itself 0.2. Loaded with the first call, because only Linux has all of them.
 */
async function libc(): Promise<Libc> {
  loading ??= import('koffi').then(({ default: koffi }) => {
    const library = koffi.load(null)
    return {
      mount: library.func(
        'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
      ) as unknown as Call,
      umount2: library.func('int umount2(const char *target, int flags)') as unknown as Call,
      mkfifo: library.func('int mkfifo(const char *path, unsigned int mode)') as unknown as Call,
      fallocate: library.func(
        'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
      ) as unknown as Call,
      ioctl: library.func('int ioctl(int fd, unsigned long request, void *data)') as unknown as Call,
      ioctlNumber: library.func(
        'int ioctl(int fd, unsigned long request, intptr_t number)',
      ) as unknown as Call,
      lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)') as unknown as Call,
      errno: () => koffi.errno(),
    }
  })
  return await loading
}

interface MountOptions {
  readonly type?: string
  readonly flags: number
  readonly data?: string
}

/**
 * In a thread of its own: a file system on a device has to be read.
 *
 * @param options.flags of MOUNT, or'ed
 * @param options.data what the file system itself is told, such as `size=1m`
 * @throws Error with the errno's name as its `code`
 */
export async function mount(
  source: string,
  target: string,
  { type, flags, data }: MountOptions,
): Promise<void> {
  const { mount: call } = await libc()
  const args = [source, target, type ?? null, flags, data ?? null]
  await inThread(call, args, `mount ${type ?? source} on ${target}`)
}

/** As `mount`, without leaving the thread: for what is in memory or mounted already, which takes 0.2 ms. */
export async function mountQuickly(
  source: string,
  target: string,
  { type, flags, data }: MountOptions,
): Promise<void> {
  const { mount: call, errno } = await libc()
  if (call(source, target, type ?? null, flags, data ?? null) !== 0)
    throw failure(`mount ${type ?? source} on ${target}`, errno())
}

/**
 * Takes away what is mounted on a folder, in a thread of its own: a file system may have much to write first.
 *
 * @param options.detach also where somebody still uses it, who keeps it
 * @throws Error with the errno's name as its `code`: `EBUSY`; `EINVAL` where nothing is mounted, `ENOENT`
 */
export async function unmount(target: string, { detach = false } = {}): Promise<void> {
  const { umount2 } = await libc()
  await inThread(umount2, [target, detach ? DETACH : 0], `unmount ${target}`)
}

/**
 * Gives an open file so many bytes of its disk, of zeros.
 *
 * @throws Error with the errno's name as its `code`: `ENOSPC`
 */
export async function allocate(fd: number, bytes: number): Promise<void> {
  const { fallocate } = await libc()
  await inThread(fallocate, [fd, 0, 0, bytes], `allocate ${bytes} bytes`)
}

/** @returns what the device says, 0 or more @throws Error with the errno's name as its `code` */
export async function ioctl(fd: number, request: number, data: Buffer | number): Promise<number> {
  const calls = await libc()
  const call = typeof data === 'number' ? calls.ioctlNumber : calls.ioctl
  return await inThread(call, [fd, request, data], `ioctl 0x${request.toString(16)}`)
}

/**
 * Where the next bytes lie of an open file that is sparse, from a place on. What the file system does not know to be a hole
 * counts as bytes.
 *
 * @returns null when only a hole follows
 */
export async function nextData(fd: number, place: number): Promise<{ from: number; to: number } | null> {
  const { lseek, errno } = await libc()
  const from = Number(lseek(fd, place, SEEK_DATA))
  if (from >= 0) return { from, to: Number(lseek(fd, from, SEEK_HOLE)) }
  const error = failure('look for data', errno())
  if (error.code === 'ENXIO') return null
  throw error
}

async function inThread(call: Call, args: Argument[], doing: string): Promise<number> {
  const { errno } = await libc()
  return await new Promise((resolve, reject) => {
    call.async(...args, (error, status) => {
      if (error) reject(error)
      else if (status < 0) reject(failure(doing, errno()))
      else resolve(status)
    })
  })
}

/** The umask takes its part of the mode away, as always. @throws Error with the errno's name as its `code` */
export async function makeFifo(path: string, mode: number): Promise<void> {
  const { mkfifo, errno } = await libc()
  if (mkfifo(path, mode) !== 0) throw failure(`mkfifo ${path}`, errno())
}

function failure(doing: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`${doing}: ${code}`), { code })
}
