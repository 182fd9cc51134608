/**
 * @typedef {'data.unwritable' | 'lock.timeout' | 'aborted'
 *   | 'install.forbidden' | 'install.failed'
 *   | 'packages.missing' | 'packages.failed' | 'build.failed'
 *   | 'redis.unreachable' | 'redis.missing' | 'redis.start_failed'
 *   | 'engine.unreachable' | 'engine.missing' | 'engine.start_failed' | 'engine.request_failed'
 *   | 'image.unknown' | 'image.build_failed'} SetupErrorCode
 */

/** A failure that a person can meet and do something about. `message` reads "what; why; what to do". */
export class SetupError extends Error {
  /**
   * @param {SetupErrorCode} code what a program can tell it by
   * @param {{what: string, why: string, fix: string, details?: string, cause?: unknown}} parts `details` (the
   *   tail of a log, say) is put below the message, indented
   */
  constructor(code, { what, why, fix, details, cause }) {
    const below = details?.trim() ? `\n${indent(details.trim())}` : ''
    super(`${what}; ${why}; ${fix}${below}`, cause === undefined ? undefined : { cause })
    this.name = 'SetupError'
    /** @type {SetupErrorCode} */
    this.code = code
  }
}

/**
 * @param {unknown} error
 * @returns {string} its message, whatever was thrown
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error)
}

/**
 * @param {unknown} error
 * @returns {string | undefined} the `code` of a Node system error (`ENOENT`, `EACCES`, …)
 */
export function codeOf(error) {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** @param {string} text */
function indent(text) {
  return text.replace(/^/gm, '  | ')
}
