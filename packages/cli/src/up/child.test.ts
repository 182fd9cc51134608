import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { Child, type ReadyMessage } from './child.js'

let folder: string
let child: Child
const never = new AbortController().signal
let ready: { pid: number; message: ReadyMessage }[]
let said: string[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agirunner-child-'))
  ready = []
  said = []
})
afterEach(async () => {
  await child.stop()
  rmSync(folder, { recursive: true })
})

function childOf(source: string): Child {
  const program = join(folder, 'program.mjs')
  writeFileSync(program, source)
  child = new Child({
    name: 'worker',
    program,
    env: () => ({ ...process.env, NUMBER: String(ready.length) }),
    logFile: join(folder, 'log', 'worker.log'),
    say: text => said.push(text),
    onReady: (pid, message) => ready.push({ pid, message }),
  })
  return child
}

/** Stays until it is told to go; an IPC channel alone does not keep a process alive. */
const WAIT = `
setInterval(() => undefined, 60_000)
for (const end of ['SIGTERM', 'disconnect']) process.on(end, () => process.exit(0))
process.send({ type: 'ready', number: process.env.NUMBER })
`

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('Child', () => {
  it('starts, tells when it is ready, and stops', async () => {
    await childOf(`console.log('hello'); ${WAIT}`).start(never)
    expect(ready[0]?.message).toEqual({ type: 'ready', number: '0' })
    await child.stop()
    expect(isAlive(ready[0]?.pid ?? 0)).toBe(false)
    expect(readFileSync(join(folder, 'log', 'worker.log'), 'utf8')).toBe('hello\n')
    expect(said).toEqual([])
  })

  it('is started again when it dies', async () => {
    await childOf(WAIT).start(never)
    process.kill(ready[0]?.pid ?? 0, 'SIGKILL')
    await eventually(() => ready.length === 2, { what: 'the second start' })
    expect(ready[1]?.message.number).toBe('1')
    expect(said[0]).toMatch(
      /^the worker is gone \(it was ended by SIGKILL\); starting it again in 1 s; its log is /,
    )
  })

  it('is not started again while it is being stopped', async () => {
    await childOf(WAIT).start(never)
    process.kill(ready[0]?.pid ?? 0, 'SIGKILL')
    await eventually(() => said.length === 1, { what: 'the notice of its death' })
    await child.stop()
    expect(ready).toHaveLength(1)
  })

  it('shows the end of its log when it does not start', async () => {
    const starting = childOf("console.error('error: no engine'); process.exit(5)").start(never)
    await expect(starting).rejects.toThrow(
      /^the worker did not start; it ended with 5; its log .*\n {2}\| error: no engine$/,
    )
  })

  it('gives up when it is told to stop before it is ready', async () => {
    const stop = new AbortController()
    const starting = childOf("process.on('SIGTERM', () => process.exit(0)); console.log('up')").start(
      stop.signal,
    )
    stop.abort()
    await expect(starting).rejects.toThrow('it was told to stop')
  })
})
