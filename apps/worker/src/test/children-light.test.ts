import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from '@jest/globals'

/** Prints the address of each module that a program loads. */
const HOOKS = `
  import { writeSync } from 'node:fs'
  export async function load(url, context, next) {
    writeSync(1, url + '\\n')
    return await next(url, context)
  }`
const asUrl = (text: string) => `data:text/javascript,${encodeURIComponent(text)}`
const TELL = asUrl(`import { register } from 'node:module'; register(${JSON.stringify(asUrl(HOOKS))})`)

function modulesOf(program: string): string[] {
  const path = fileURLToPath(new URL(program, import.meta.url))
  return execFileSync(process.execPath, ['--import', TELL, path], {
    encoding: 'utf8',
    timeout: 30_000,
  }).split('\n')
}

const isZod = (url: string) => url.includes('/node_modules/zod/')

// Each worker keeps one of each: with zod they took twice as long to start, and 12 MiB more.
test.each([
  '../workspace/git/child.js',
  '../capture/changes/child.js',
  '../execution/network/proxy/child.js',
])('%s loads no schemas', program => {
  const modules = modulesOf(program)
  expect(modules).toContainEqual(expect.stringContaining('/contracts/dist/'))
  expect(modules.filter(isZod)).toEqual([])
})

test('control: a program that does is seen to', () => {
  expect(modulesOf('../config.js').some(isZod)).toBe(true)
})
