import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import TotalsReporter from '../src/jest-reporter.js'
import { readTotals } from '../src/test-run.js'
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
