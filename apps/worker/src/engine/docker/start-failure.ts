import { TaskFailure } from '@agirunner/contracts'
import { asEngineError } from './errors.js'

/**
 * What an engine and its runtime say when it is the image that nothing can be started in. All of it would fail on every
 * attempt, so it must not count as the machinery's fault.
 */
const FAULTS: readonly RegExp[] = [
  /mounting .* to rootfs .*(not a directory|is inside \/proc|inside \/proc|too many levels of symbolic links)/i,
  /cannot mount volume over existing file/i,
  /exec: ".*": (executable file not found|stat .*: (no such file|not a directory)|permission denied|is a directory)/i,
  /exec format error/i,
  /argument list too long/i,
]

/** The failure `image.incompatible` where an error of a create or a start says so, else null. */
export function imageFault(error: unknown): TaskFailure | null {
  const { json, message, statusCode } = asEngineError(error)
  const said = (json?.message ?? message).trim()
  if (statusCode === undefined || !FAULTS.some(fault => fault.test(said))) return null
  return new TaskFailure('image.incompatible', `the image can't run tasks: ${said}`, { cause: error })
}
