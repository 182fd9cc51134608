import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from '@jest/globals'

/**
 * @returns {() => string} gives a new folder each time; all of them are removed after the test
 */
export function temporaryFolders() {
  /** @type {string[]} */
  const folders = []
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
  return () => {
    const folder = mkdtempSync(join(tmpdir(), 'agirunner-setup-'))
    folders.push(folder)
    return folder
  }
}

/** @returns {{lines: string[], log: (line: string) => void}} */
export function recordedLog() {
  /** @type {string[]} */
  const lines = []
  return { lines, log: line => lines.push(line) }
}
