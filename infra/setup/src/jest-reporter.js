import { writePrivateFile } from './files.js'

/**
 * Keeps in the file that AGIRUNNER_TEST_TOTALS names how many tests have passed and failed and which files are running:
 * for `npm test` to print after everything is cleaned up, and to notice a file that hangs. Without it, this does nothing.
 */
export default class TotalsReporter {
  /** @type {Map<string, number>} since when each file runs, in milliseconds since 1970 */
  #running = new Map()
  #passed = 0
  #failed = 0

  /** @param {{path: string}} test */
  onTestFileStart(test) {
    this.#running.set(test.path, Date.now())
    this.#store()
  }

  /**
   * @param {{path: string}} test
   * @param {unknown} _result
   * @param {Totals} results of all files so far
   */
  onTestFileResult(test, _result, results) {
    this.#running.delete(test.path)
    this.#count(results)
  }

  /**
   * @param {unknown} _contexts
   * @param {Totals} results
   */
  onRunComplete(_contexts, results) {
    this.#running.clear()
    this.#count(results)
  }

  /** @param {Totals} results */
  #count(results) {
    this.#passed = results.numPassedTests
    // A file that could not even be loaded ran none of its tests: that is a failure, though of no single test.
    this.#failed = results.numFailedTests + results.numRuntimeErrorTestSuites
    this.#store()
  }

  #store() {
    const file = process.env.AGIRUNNER_TEST_TOTALS
    if (!file) return
    const running = [...this.#running].map(([path, since]) => ({ path, since }))
    writePrivateFile(file, JSON.stringify({ passed: this.#passed, failed: this.#failed, running }))
  }
}

/** @typedef {{numPassedTests: number, numFailedTests: number, numRuntimeErrorTestSuites: number}} Totals */
