/** @typedef {(line: string) => void} Log takes one finished line, without a newline */

const tickSeconds = 5

/**
 * @param {Log} log
 * @param {string} area what the lines are about: packages, redis, engine, image
 * @returns {Log} writes `setup: <area>: <text>`
 */
export function areaLog(log, area) {
  return text => log(`setup: ${area}: ${text}`)
}

/**
 * Says every few seconds that something long is still going on, and at the end how long it took.
 * @template T
 * @param {Log} say
 * @param {string} what as in "installing docker.io"
 * @param {() => Promise<T>} work a program's `{code}` other than 0 counts as a failure
 * @returns {Promise<T>} what `work` gives; its failure is passed on
 */
export async function withProgress(say, what, work) {
  const started = performance.now()
  const seconds = () => Math.round((performance.now() - started) / 100) / 10
  say(`${what} …`)
  const ticker = setInterval(
    () => say(`${what}: still at it after ${Math.round(seconds())} s`),
    tickSeconds * 1000,
  )
  let outcome = 'failed after'
  try {
    const result = await work()
    if (!hasFailed(result)) outcome = 'done in'
    return result
  } finally {
    clearInterval(ticker)
    say(`${what}: ${outcome} ${seconds()} s`)
  }
}

/** @param {unknown} result of a program, maybe */
function hasFailed(result) {
  return typeof result === 'object' && result !== null && 'code' in result && result.code !== 0
}
