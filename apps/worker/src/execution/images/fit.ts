import { posix } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import type { ImageInfo } from '../../engine/engine.js'
import { INSIDE } from '../gate.js'

/** Each is one more mount of every container. */
const MAX_VOLUMES = 64
/** The kernel takes no longer string of an environment (MAX_ARG_STRLEN), and not much more of all together. */
const MAX_STRING = 128 * 1024 - 1
const MAX_ENVIRONMENT = 1024 * 1024
/** What a runtime mounts itself, and a volume of an image must not stand in the way of. */
const KERNEL = ['/proc', '/sys', '/dev']

/**
 * What an image asks of its containers that no container here can have.
 *
 * @throws TaskFailure `image.incompatible`
 */
export function refuseUnfit(reference: string, image: ImageInfo): void {
  const why = whyUnfit(image)
  if (why !== null)
    throw new TaskFailure('image.incompatible', `image "${reference}" can't run tasks: ${why}`)
}

function whyUnfit({ env, volumes }: ImageInfo): string | null {
  const bytes = env.map(entry => Buffer.byteLength(entry) + 1)
  if (Math.max(0, ...bytes) > MAX_STRING || bytes.reduce((sum, one) => sum + one, 0) > MAX_ENVIRONMENT)
    return 'its environment is larger than the kernel takes'
  if (volumes.length > MAX_VOLUMES) return `it declares ${volumes.length} volumes, more than ${MAX_VOLUMES}`
  const bad = volumes.find(path => !isVolumePath(path))
  return bad === undefined ? null : `it declares a volume at ${JSON.stringify(bad.slice(0, 200))}`
}

function isVolumePath(path: string): boolean {
  const clean = posix.normalize(path)
  const isKernels = KERNEL.some(place => clean === place || clean.startsWith(`${place}/`))
  // Mount options are separated by commas, and a path with a NUL or a newline is no path.
  return posix.isAbsolute(path) && clean !== '/' && !isKernels && /^[\p{L}\p{N}\p{P}\p{S} ]+$/u.test(path)
}

/** Where the runtime mounts something itself. */
const OURS: ReadonlySet<string> = new Set(['/tmp', '/dev/shm', ...Object.values(INSIDE)])

/**
 * What stands in the place of the volumes that an image declares: memory of the task's own. An engine would make a volume
 * of its own for each, on its disk, writable whatever the profile says and bounded by nothing.
 *
 * @param size as in `/tmp`, in bytes
 * @returns target → mount options
 */
export function volumeTmpfs(image: ImageInfo, size: number): Record<string, string> {
  const paths = image.volumes.map(path => posix.normalize(path).replace(/(.)\/$/, '$1'))
  const free = paths.filter(path => !OURS.has(path))
  return Object.fromEntries(free.map(path => [path, `rw,exec,nosuid,nodev,mode=1777,size=${size}`]))
}
