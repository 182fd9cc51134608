import { execFileSync, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** @typedef {import('./environment.js').Env} Env */

/**
 * A process that can't be taken for a later one that got the same number.
 * @typedef {{pid: number, startTime: string}} ProcessId `startTime` is only ever compared for equality
 */

const tailBytes = 4000

/**
 * When a process started: field 22 of /proc/<pid>/stat (clock ticks since boot) on Linux, what `ps` says
 * elsewhere.
 * @param {number} pid
 * @returns {string | null} null when there is no such process, or only its zombie
 */
export function startTimeOf(pid) {
  return process.platform === 'linux' ? startTimeFromProc(pid) : startTimeFromPs(pid)
}

/** @param {number} pid */
function startTimeFromProc(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in brackets, and may itself hold blanks and brackets.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields[0] === 'Z' || fields[0] === 'X') return null
    return fields[19] ?? null
  } catch {
    return null
  }
}

/** @param {number} pid */
function startTimeFromPs(pid) {
  try {
    const args = ['-o', 'lstart=', '-p', String(pid)]
    return execFileSync('ps', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim() || null
  } catch {
    return null
  }
}

/** @returns {ProcessId} this process */
export function ownProcess() {
  return { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' }
}

/**
 * @param {ProcessId} id
 * @returns {boolean} whether that very process still runs
 */
export function isAlive(id) {
  return startTimeOf(id.pid) === id.startTime
}

/**
 * @param {number} pid
 * @returns {string | null} the program's short name as the kernel knows it; null when unknown
 */
export function nameOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return null
  }
}

/**
 * Ends a process and waits until it is gone: SIGTERM, and SIGKILL once `graceMs` have passed.
 * @param {ProcessId} id
 * @param {{graceMs: number}} options
 * @returns {Promise<'gone' | 'ended' | 'killed'>} gone: it did not run any more
 */
export async function endProcess(id, { graceMs }) {
  if (!isAlive(id)) return 'gone'
  sendSignal(id, 'SIGTERM')
  if (await waitFor(() => !isAlive(id), { withinMs: graceMs, everyMs: 20 })) return 'ended'
  sendSignal(id, 'SIGKILL')
  await waitFor(() => !isAlive(id), { withinMs: 10_000, everyMs: 20 })
  return 'killed'
}

/**
 * @param {ProcessId} id
 * @param {NodeJS.Signals} signal
 */
function sendSignal(id, signal) {
  try {
    process.kill(id.pid, signal)
  } catch {
    // It ended by itself in between, which is what was wanted.
  }
}

/**
 * Polls a condition.
 * @param {() => boolean | Promise<boolean>} condition
 * @param {{withinMs: number, everyMs: number}} options
 * @returns {Promise<boolean>} false when it did not come true in time
 */
export async function waitFor(condition, { withinMs, everyMs }) {
  const deadline = performance.now() + withinMs
  while (true) {
    if (await condition()) return true
    if (performance.now() >= deadline) return false
    await sleep(everyMs)
  }
}

/**
 * Runs a program to its end. Its standard input is empty.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{env: Env, cwd?: string, logFile?: string, inherit?: boolean, argv0?: string,
 *   timeoutMs?: number, signal?: AbortSignal}} options
 *   `logFile`: both outputs are appended to it and `output` is what this run added (its tail); `inherit`:
 *   both go where this process's go
 * @returns {Promise<{code: number, output: string}>} `code` is 127 when there is no such program, 128 + n
 *   after a signal
 */
export async function run(command, args, options) {
  const file = options.logFile ? openSync(options.logFile, 'a', 0o600) : null
  const from = options.logFile ? statSync(options.logFile).size : 0
  try {
    const stdio = file ?? (options.inherit ? 'inherit' : 'pipe')
    const { code, output } = await runChild(command, args, stdio, options)
    return { code, output: options.logFile ? tailOf(options.logFile, { from }) || output : output }
  } finally {
    if (file !== null) closeSync(file)
  }
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {number | 'inherit' | 'pipe'} output
 * @param {{env: Env, cwd?: string, argv0?: string, timeoutMs?: number, signal?: AbortSignal}} options
 * @returns {Promise<{code: number, output: string}>}
 */
function runChild(command, args, output, { env, cwd, argv0, timeoutMs, signal }) {
  return new Promise(resolve => {
    const child = spawn(command, args, {
      env: { ...env },
      stdio: ['ignore', output, output],
      ...(cwd === undefined ? {} : { cwd }),
      ...(argv0 === undefined ? {} : { argv0 }),
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
      ...(signal === undefined ? {} : { signal }),
    })
    /** @type {Buffer[]} */
    const chunks = []
    child.stdout?.on('data', chunk => chunks.push(chunk))
    child.stderr?.on('data', chunk => chunks.push(chunk))
    child.once('error', error => resolve({ code: 127, output: error.message }))
    child.once('close', (code, ended) => {
      resolve({ code: code ?? 128 + signalNumber(ended), output: Buffer.concat(chunks).toString() })
    })
  })
}

/**
 * @param {NodeJS.Signals | null} signal
 * @returns {number}
 */
export function signalNumber(signal) {
  /** @type {Partial<Record<NodeJS.Signals, number>>} */
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 }
  return (signal && numbers[signal]) || 0
}

/**
 * Starts a service that outlives this process: a session of its own (so that Ctrl-C at the terminal does not
 * reach it), its output appended to a file.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{env: Env, logFile: string, argv0?: string}} options
 * @returns {Promise<ProcessId>}
 * @throws {Error} the system's own, when it could not be started at all
 */
export async function startService(command, args, { env, logFile, argv0 }) {
  const file = openSync(logFile, 'a', 0o600)
  try {
    const child = spawn(command, args, {
      env: { ...env },
      cwd: '/',
      detached: true,
      stdio: ['ignore', file, file],
      ...(argv0 === undefined ? {} : { argv0 }),
    })
    await new Promise((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    child.unref()
    const pid = child.pid ?? 0
    return { pid, startTime: startTimeOf(pid) ?? '' }
  } finally {
    closeSync(file)
  }
}

/**
 * The end of a log, for an error message.
 * @param {string} file
 * @param {{from?: number, lines?: number}} [options] `from`: the byte that counts as its beginning
 * @returns {string} empty when there is no such file
 */
export function tailOf(file, { from = 0, lines = 15 } = {}) {
  try {
    const bytes = readFileSync(file).subarray(from)
    const text = bytes.subarray(Math.max(0, bytes.length - tailBytes)).toString()
    return text.trimEnd().split('\n').slice(-lines).join('\n')
  } catch {
    return ''
  }
}
