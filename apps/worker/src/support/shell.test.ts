import { afterEach, describe, expect, it } from '@jest/globals'
import { Shell } from './shell.js'

const shell = new Shell()
afterEach(() => shell.close())

describe('a shell that is there already', () => {
  it('runs programs with exactly these arguments, one after another', async () => {
    const odd = `a'b "c" $HOME \`id\` ; exit 3`
    await Promise.all([shell.run('test', [odd, '=', odd]), shell.run('true', [])])
    await expect(shell.run('test', ['a', '=', 'b'])).rejects.toThrow('test ended with 1')
  })

  it('tells what a program that fails had to say, and goes on', async () => {
    await expect(shell.run('ls', ['/not-there'])).rejects.toThrow(/ls ended with 2: .*not-there/)
    await shell.run('true', [])
  })

  it('fails what it was asked when it is ended, and starts again', async () => {
    await expect(shell.run('sh', ['-c', 'kill -9 $PPID'])).rejects.toThrow('the shell ended')
    await shell.run('true', [])
  })
})
