import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { codeOf, messageOf, SetupError } from './errors.js'

/**
 * Makes a folder below the data folder; only this user may look inside.
 * @param {string} dataDir
 * @param {...string} names
 * @returns {string} its path
 * @throws {SetupError} data.unwritable
 */
export function dataFolder(dataDir, ...names) {
  const folder = join(dataDir, ...names)
  try {
    mkdirSync(dataDir, { recursive: true })
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return folder
  } catch (error) {
    throw new SetupError('data.unwritable', {
      what: `can't make the folder ${folder}`,
      why: messageOf(error),
      fix: 'set AGIRUNNER_DATA to a folder that you can write to',
      cause: error,
    })
  }
}

/**
 * Writes a file that only this user can read, so that a reader sees all of the old or all of the new.
 * @param {string} file
 * @param {string} text
 */
export function writePrivateFile(file, text) {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.${process.pid}.new`
  // An old draft would keep its own mode.
  rmSync(draft, { force: true })
  writeFileSync(draft, text, { mode: 0o600, flag: 'wx' })
  renameSync(draft, file)
}

/**
 * @param {string} file
 * @returns {unknown} what the JSON in it says; null when it isn't there or isn't JSON
 */
export function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || error instanceof SyntaxError) return null
    throw error
  }
}
