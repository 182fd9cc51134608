/** What no part of a ref's name may be (git-check-ref-format). */
const NO_PART = /^$|^\.|\.lock$|\.$/
/** What no disk holds as a file's name, `.lock` added. */
const MAX_PART_BYTES = 250
/** Control characters, the blank and `~`, by what is left without them; and what git reads as something else. */
const NOWHERE = /[^!-}\u0080-\u{10ffff}]|[\^:?*[\\]|\.\.|@\{/u
const MAX_REF_BYTES = 1024

/** Whether git takes it for the name of a ref. */
export function isRefName(name: string): boolean {
  if (name === '@' || Buffer.byteLength(name) > MAX_REF_BYTES || NOWHERE.test(name)) return false
  return !name.split('/').some(part => NO_PART.test(part) || Buffer.byteLength(part) > MAX_PART_BYTES)
}

/**
 * Whether git takes it for the name of a branch, without `refs/heads/`. A name that starts like a full ref is refused:
 * it would become `refs/heads/refs/heads/…`, which nobody means.
 */
export function isBranchName(name: string): boolean {
  if (name === 'HEAD' || name.startsWith('-') || name.startsWith('refs/')) return false
  return isRefName(`refs/heads/${name}`)
}
