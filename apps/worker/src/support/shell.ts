import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { CHILD_ENV } from './program.js'

/** Ends the answer to one command; what comes before is what the command had to say. */
const END = '\u0001'

interface Waiting {
  readonly what: string
  resolve(): void
  reject(error: Error): void
}

/**
 * Runs system programs from a shell that is there already: a fork of the worker itself takes 14 ms to become `mount` on
 * two cores, one of a small shell 4. One program at a time, for what is on every task's way. The shell ends with the worker.
 */
export class Shell {
  #child: ChildProcessByStdio<Writable, Readable, null> | null = null
  readonly #waiting: Waiting[] = []
  #said = ''

  /** @throws Error with what the program wrote, when its status is not 0 */
  run(program: string, args: readonly string[]): Promise<void> {
    const child = this.#running()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ what: program, resolve, reject })
      const line = [program, ...args].map(quote).join(' ')
      child.stdin.write(`${line} 2>&1 </dev/null; printf '\\001%s\\001' "$?"\n`)
    })
  }

  /** What is under way ends first; the next one begins another. */
  close(): void {
    this.#child?.stdin.end()
    this.#child = null
  }

  #running(): ChildProcessByStdio<Writable, Readable, null> {
    if (this.#child !== null) return this.#child
    const child = spawn('/bin/sh', [], { stdio: ['pipe', 'pipe', 'ignore'], env: CHILD_ENV })
    this.#child = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#hear(text))
    child.stdin.on('error', () => undefined)
    child.on('error', error => this.#die(child, error.message))
    child.on('close', () => this.#die(child, 'the shell ended'))
    // Nothing waits for it when the worker has nothing else to do.
    child.unref()
    return child
  }

  #hear(text: string): void {
    this.#said += text
    for (;;) {
      const [said, status, rest] = split(this.#said)
      if (status === null) return
      this.#said = rest
      const waiting = this.#waiting.shift()
      if (status === '0') waiting?.resolve()
      else waiting?.reject(new Error(`${waiting.what} ended with ${status}: ${said.trim().slice(0, 1000)}`))
    }
  }

  #die(child: unknown, why: string): void {
    // Another one may be there by now, and what waits is its.
    if (this.#child !== null && this.#child !== child) return
    this.#child = null
    this.#said = ''
    for (const waiting of this.#waiting.splice(0)) waiting.reject(new Error(`${waiting.what}: ${why}`))
  }
}

function split(text: string): [said: string, status: string | null, rest: string] {
  const [said = '', status, ...rest] = text.split(END)
  return rest.length === 0 || status === undefined ? [said, null, ''] : [said, status, rest.join(END)]
}

function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}
