import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from '@jest/globals'
import { isInit, processEnd } from './process-end.js'

const children: ReturnType<typeof spawn>[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

async function start(program: string, args: readonly string[]) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  await once(child, 'spawn')
  return child
}

describe('the end of a process', () => {
  it('is told once it has ended, and not before', async () => {
    const child = await start('sleep', ['100'])
    let ended = false
    const end = processEnd(child.pid ?? 0, new AbortController().signal).then(() => {
      ended = true
    })
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(ended).toBe(false)
    child.kill('SIGKILL')
    await end
  })

  it('is not looked for any more once that is aborted', async () => {
    const child = await start('sleep', ['100'])
    const stop = new AbortController()
    let ended = false
    void processEnd(child.pid ?? 0, stop.signal).then(() => {
      ended = true
    })
    stop.abort()
    child.kill('SIGKILL')
    await once(child, 'exit')
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(ended).toBe(false)
  })
})

describe('the first process of a namespace', () => {
  it('is told from others', async () => {
    const child = await start('unshare', [
      '--pid',
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      'echo up; sleep 100',
    ])
    await once(child.stdout as NodeJS.ReadableStream, 'data')
    const { stdout } = await start('pgrep', ['-P', String(child.pid)])
    const [pid] = await once(stdout as NodeJS.ReadableStream, 'data')
    expect(isInit(Number(String(pid)))).toBe(true)
    expect(isInit(child.pid ?? 0)).toBe(false)
    expect(isInit(process.pid)).toBe(false)
    expect(isInit(2 ** 22 + 1)).toBe(false)
  })
})
