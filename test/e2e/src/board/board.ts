import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const BOARD = fileURLToPath(new URL('../../../../apps/board/dist/main.js', import.meta.url))

export interface TestBoard {
  /** Such as `http://127.0.0.1:3700`, with the path that it lives under. */
  readonly url: string
  readonly user: string
  readonly password: string
  stop(): Promise<void>
}

/**
 * Starts the board on a queue, at any free port.
 *
 * @param more other variables of its environment
 */
export async function startBoard(
  redisUrl: string,
  queue: string,
  more: Readonly<Record<string, string>> = {},
): Promise<TestBoard> {
  const env = {
    PATH: process.env.PATH ?? '',
    REDIS_URL: redisUrl,
    AGIRUNNER_QUEUE: queue,
    AGIRUNNER_BOARD_PORT: '0',
    ...more,
  }
  const child: ChildProcess = fork(BOARD, [], { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const exited = once(child, 'exit')
  const first = await Promise.race([once(child, 'message'), exited.then(() => [null])])
  const ready = first[0] as { url: string; user: string; password: string | null } | null
  if (ready === null) throw new Error('the board ended before it was ready')
  return {
    url: ready.url,
    user: ready.user,
    password: ready.password ?? more.AGIRUNNER_BOARD_PASSWORD ?? '',
    stop: async () => {
      child.kill('SIGTERM')
      await exited
    },
  }
}
