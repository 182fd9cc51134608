import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import TotalsReporter from '../src/jest-reporter.js'
import { readTotals, runJest } from '../src/test-run.js'
import { temporaryFolders } from './support.js'

const newFolder = temporaryFolders()
const before = process.env.AGIRUNNER_TEST_TOTALS
afterEach(() => {
  if (before === undefined) delete process.env.AGIRUNNER_TEST_TOTALS
  else process.env.AGIRUNNER_TEST_TOTALS = before
})

/** @param {{numPassedTests: number, numFailedTests: number, numRuntimeErrorTestSuites: number}} results */
function store(results) {
  const file = join(newFolder(), 'totals.json')
  process.env.AGIRUNNER_TEST_TOTALS = file
  new TotalsReporter().onRunComplete({}, results)
  return file
}

test('a test file that could not be loaded counts as a failure', () => {
  const file = store({ numPassedTests: 3, numFailedTests: 1, numRuntimeErrorTestSuites: 2 })
  expect(readTotals(file, 1)).toEqual({ passed: 3, failed: 3 })
})

test('so does a run that ended badly without a failed test, or without any totals', () => {
  const file = store({ numPassedTests: 3, numFailedTests: 0, numRuntimeErrorTestSuites: 0 })
  expect(readTotals(file, 0)).toEqual({ passed: 3, failed: 0 })
  expect(readTotals(file, 1)).toEqual({ passed: 3, failed: 1 })
  expect(readTotals(join(newFolder(), 'none'), 137)).toEqual({ passed: 0, failed: 1 })
})

test('what ran before the end of a run that was killed is told', () => {
  const file = join(newFolder(), 'totals.json')
  process.env.AGIRUNNER_TEST_TOTALS = file
  const reporter = new TotalsReporter()
  reporter.onTestFileStart({ path: 'a' })
  reporter.onTestFileResult({ path: 'a' }, null, {
    numPassedTests: 3,
    numFailedTests: 0,
    numRuntimeErrorTestSuites: 0,
  })
  reporter.onTestFileStart({ path: 'b' })
  expect(readTotals(file, 137)).toEqual({ passed: 3, failed: 1 })
})

test('a file that never lets go of its thread is named and killed, with all that it started', async () => {
  const root = newFolder()
  const totals = join(root, 'totals.json')
  mkdirSync(join(root, 'node_modules', 'jest', 'bin'), { recursive: true })
  const running = JSON.stringify({ running: [{ path: 'endless.test.js', since: 1 }] })
  // In the place of jest: what it leaves when a test loops for ever, and a worker that hears no signal but one.
  writeFileSync(
    join(root, 'node_modules', 'jest', 'bin', 'jest.js'),
    `const { spawnSync } = require('node:child_process')
     require('node:fs').writeFileSync(process.env.AGIRUNNER_TEST_TOTALS, ${JSON.stringify(running)})
     spawnSync(process.execPath, ['-e', 'for (;;) {}'], { stdio: 'inherit' })`,
  )
  /** @type {string[]} */
  const lines = []
  const signal = new AbortController().signal
  const log = (/** @type {string} */ line) => lines.push(line)
  const code = await runJest({ root, env: process.env, args: [], signal, log, totals, lookMs: 20 })
  expect(code).toBe(137)
  expect(lines).toEqual([expect.stringMatching(/hangs after 10 minutes, and is killed: endless\.test\.js$/)])
})
