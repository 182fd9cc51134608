import { execFile } from 'node:child_process'
import { CHILD_ENV } from '../../support/program.js'

/** Others may hold the kernel's lock for a moment. In seconds. */
const LOCK_WAIT = '10'
const CALL_MS = 20_000

/** The engine's own chain for rules of others: it goes through it before all rules of its own, and never changes it. */
export const ENGINE_CHAIN = 'DOCKER-USER'

/** One way to the filter table of one IP version: the nft or the legacy variant of iptables. */
export class Iptables {
  readonly #command: string

  constructor(command: string) {
    this.#command = command
  }

  /** The filter table as `-S` prints it: `-P`, `-N` and `-A` lines. @throws Error with the program's words */
  async list(): Promise<string[]> {
    const text = await run(this.#command, ['-w', LOCK_WAIT, '-S'])
    return text.split('\n').filter(line => line !== '')
  }

  /** Changes the filter table by lines of `iptables-restore`: all of them, or none. @throws Error as above */
  async change(lines: readonly string[]): Promise<void> {
    const input = ['*filter', ...lines, 'COMMIT', ''].join('\n')
    await run(`${this.#command}-restore`, ['-w', LOCK_WAIT, '--noflush'], input)
  }
}

/**
 * The variant of iptables in which the engine keeps its rules: a rule in the other one may be passed over.
 *
 * @throws Error that says why there is none
 */
export async function engineIptables(): Promise<{ v4: Iptables; v6: Iptables; variant: string }> {
  const problems: string[] = []
  for (const variant of ['', '-nft', '-legacy']) {
    const v4 = new Iptables(`iptables${variant}`)
    try {
      const lines = await v4.list()
      if (!lines.includes(`-N ${ENGINE_CHAIN}`)) throw new Error(`it has no chain ${ENGINE_CHAIN}`)
      const v6 = new Iptables(`ip6tables${variant}`)
      await v6.list()
      return { v4, v6, variant: `iptables${variant}` }
    } catch (error) {
      problems.push(`iptables${variant}: ${(error as Error).message}`)
    }
  }
  throw new Error(problems.join('; '))
}

function run(command: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: CHILD_ENV, timeout: CALL_MS, maxBuffer: 64 * 2 ** 20 }
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout)
      if ((error as NodeJS.ErrnoException).code === 'ENOENT')
        return reject(new Error(`${command} is not installed`))
      reject(
        new Error(`${command} failed: ${stderr.trim().split('\n').slice(0, 3).join(' ') || error.message}`),
      )
    })
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input ?? '')
  })
}
