import { generatePassword } from './auth.js'
import { type BoardConfig, ConfigError, readConfig } from './config.js'
import { redactText } from './redact.js'
import { type Board, createBoard } from './server.js'

/** Exit codes of the board: 0 stopped, 2 wrong configuration, 5 Redis or the port is not usable. */
async function main(): Promise<void> {
  const config = readConfig()
  const password = config.password ?? generatePassword()
  const board = await createBoard({ ...config, password })
  // Before anybody hears that it is ready: they may ask it to stop at once.
  onStop(board)
  announce(board, config, password)
}

/** A generated password is said once, to whoever started this process: over IPC, else on stdout. */
function announce({ url, user }: Board, config: BoardConfig, password: string): void {
  const generated = config.password === null ? password : null
  if (process.send) process.send({ type: 'ready', url, user, password: generated })
  else
    process.stdout.write(`board ${url} user ${user}${generated === null ? '' : ` password ${generated}`}\n`)
}

function onStop(board: Board): void {
  const stop = () => {
    board
      .close()
      .then(() => process.exit(0))
      .catch(() => process.exit(1))
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
  // Whoever started it is gone: nobody would stop it otherwise.
  if (process.send) process.once('disconnect', stop)
}

function explain(error: unknown): string {
  if (error instanceof ConfigError) return error.message
  const { message, code } = error as NodeJS.ErrnoException
  if (code === 'EADDRINUSE') return `${message}; another program has that port; set AGIRUNNER_BOARD_PORT`
  return redactText(message)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: the board can't start; ${explain(error)}\n`)
  process.exit(error instanceof ConfigError ? 2 : 5)
})
