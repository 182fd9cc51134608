import { writeFileSync } from 'node:fs'

/**
 * Stores how many tests passed and failed in the file that AGIRUNNER_TEST_TOTALS names, for `npm test` to
 * print after everything is cleaned up. Without it, this does nothing.
 */
export default class TotalsReporter {
  /**
   * @param {unknown} _contexts
   * @param {{numPassedTests: number, numFailedTests: number, numRuntimeErrorTestSuites: number}} results
   */
  onRunComplete(_contexts, results) {
    const file = process.env.AGIRUNNER_TEST_TOTALS
    if (!file) return
    // A file that could not even be loaded ran none of its tests: that is a failure, though of no single
    // test.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites
    writeFileSync(file, JSON.stringify({ passed: results.numPassedTests, failed }))
  }
}
