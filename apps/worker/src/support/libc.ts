import { getSystemErrorName } from 'node:util'

/** As in `<sys/mount.h>`. */
export const MOUNT = {
  readOnly: 1,
  noSuid: 2,
  noDev: 4,
  noExec: 8,
  bind: 4096,
  private: 2 ** 18,
  shared: 2 ** 20,
} as const
const DETACH = 2

interface Call {
  (...args: (string | number | null)[]): number
  async(...args: [...(string | number | null)[], done: (error: Error | null, status: number) => void]): void
}

interface Libc {
  readonly mount: Call
  readonly umount2: Call
  readonly mkfifo: Call
  errno(): number
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
      errno: () => koffi.errno(),
    }
  })
  return await loading
}

/**
 * @param options.flags of MOUNT, or'ed
 * @param options.data what the file system itself is told, such as `size=1m`
 * @throws Error with the errno's name as its `code`
 */
export async function mount(
  source: string,
  target: string,
  { type = null, flags, data = null }: { type?: string | null; flags: number; data?: string | null },
): Promise<void> {
  const { mount: call, errno } = await libc()
  if (call(source, target, type, flags, data) !== 0)
    throw failure(`mount ${type ?? source} on ${target}`, errno())
}

/**
 * Takes away what is mounted on a folder, in a thread of its own: a file system may have much to write first.
 *
 * @param options.detach also where somebody still uses it, who keeps it
 * @throws Error with the errno's name as its `code`: `EBUSY`; `EINVAL` where nothing is mounted, `ENOENT`
 */
export async function unmount(target: string, { detach = false } = {}): Promise<void> {
  const { umount2, errno } = await libc()
  await new Promise<void>((resolve, reject) => {
    umount2.async(target, detach ? DETACH : 0, (error, status) => {
      if (error) reject(error)
      else if (status !== 0) reject(failure(`unmount ${target}`, errno()))
      else resolve()
    })
  })
}

/** The umask takes its part of the mode away, as always. @throws Error with the errno's name as its `code` */
export async function makeFifo(path: string, mode: number): Promise<void> {
  const { mkfifo, errno } = await libc()
  if (mkfifo(path, mode) !== 0) throw failure(`mkfifo ${path}`, errno())
}

function failure(doing: string, errno: number): Error {
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`${doing}: ${code}`), { code })
}
