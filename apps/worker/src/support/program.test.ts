import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { runProgram } from './program.js'

describe('a program that the worker runs', () => {
  it('is told nothing of the environment of the worker', async () => {
    const { stdout } = await runProgram('env', [])
    const inherited = await promisify(execFile)('env', [])
    expect(stdout.toString().match(/^\w+/gm)?.sort()).toEqual(['LANG', 'PATH'])
    // The control: a child started without more ado inherits what there is.
    expect(inherited.stdout).toMatch(/^HOME=/m)
  })

  it('fails with its status and what it said', async () => {
    const failing = runProgram('sh', ['-c', 'echo no such luck >&2; exit 7'])
    await expect(failing).rejects.toMatchObject({ code: 7, stderr: Buffer.from('no such luck\n') })
  })
})
