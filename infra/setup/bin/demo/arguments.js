import { parseArgs } from 'node:util'

export const usage = `usage: npm run demo [-- --repo URL] [-- --ref R] [-- --script S]

Sets this machine up, runs one task on a git repository, shows what happens and cleans up.

  --repo URL   a repository over http(s); the checkout's own by default
  --ref R      a branch, tag or commit of it; its default branch otherwise
  --script S   what the task runs, in /bin/sh; a small tour otherwise`

/** @typedef {{repo: string | null, ref: string | null, script: string | null}} DemoArguments */

class UsageError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message)
    this.name = 'UsageError'
  }
}

/**
 * @param {string[]} argv
 * @returns {DemoArguments | null} null when help is wanted
 */
export function readArguments(argv) {
  const text = /** @type {const} */ ({ type: 'string' })
  const options = {
    repo: text,
    ref: text,
    script: text,
    help: /** @type {const} */ ({ type: 'boolean', short: 'h' }),
  }
  try {
    const { values } = parseArgs({ args: argv, options })
    if (values.help) return null
    return { repo: values.repo ?? null, ref: values.ref ?? null, script: values.script ?? null }
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw new UsageError(`the demo can't start; ${why}; \`npm run demo -- --help\` shows how it is used`)
  }
}
