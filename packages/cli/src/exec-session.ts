import type { Duplex } from 'node:stream'
import type Docker from 'dockerode'
import type { Io, Sink } from './output.js'

/** Where a task's files are in its container; the contract names them. */
const REPO = '/workspace/repo'
const HOME = '/home/agent'

export interface ExecOptions {
  readonly command: readonly string[]
  readonly taskId: string
  /** As `docker exec --user` takes it; null for the task's own. */
  readonly user: string | null
  /** Whether the command gets our stdin. */
  readonly stdin: boolean
  /** A person at a terminal: one stream, raw keys, the window's size. */
  readonly terminal: boolean
}

/**
 * Runs a command in a running container until it ends.
 *
 * @returns its exit code @throws the engine's own error, such as for a user that is not there
 */
export async function execIn(container: Docker.Container, options: ExecOptions, io: Io): Promise<number> {
  const { command, user, stdin, terminal, taskId } = options
  const exec = await container.exec({
    Cmd: [...command],
    AttachStdin: stdin,
    AttachStdout: true,
    AttachStderr: true,
    Tty: terminal,
    WorkingDir: REPO,
    Env: [
      `HOME=${HOME}`,
      `AGIRUNNER_TASK_ID=${taskId}`,
      ...(terminal ? [`TERM=${process.env.TERM ?? 'xterm'}`] : []),
    ],
    ...(user === null ? {} : { User: user }),
  })
  const stream = await exec.start({ hijack: true, stdin, Tty: terminal })
  const leaveRaw = terminal ? await enterRaw(exec) : () => undefined
  try {
    if (stdin) void pass(io.stdin, stream)
    else stream.end()
    await show(stream, io, terminal)
  } finally {
    leaveRaw()
    stream.destroy()
  }
  const { ExitCode: code } = await exec.inspect()
  return code ?? 0
}

/** What the command does not read any more is nobody's loss. */
async function pass(from: Io['stdin'], to: Duplex): Promise<void> {
  try {
    for await (const chunk of from) {
      if (to.destroyed) return
      if (!to.write(chunk)) await new Promise(resolve => to.once('drain', resolve).once('close', resolve))
    }
    to.end()
  } catch {
    to.end()
  }
}

async function show(stream: Duplex, { out, err }: Io, terminal: boolean): Promise<void> {
  if (terminal) {
    for await (const chunk of stream) await out.write(chunk as Buffer)
    return
  }
  for await (const { channel, bytes } of framesOf(stream)) await sinkOf(channel, out, err).write(bytes)
}

function sinkOf(channel: number, out: Sink, err: Sink): Sink {
  return channel === 2 ? err : out
}

const HEADER_BYTES = 8

/**
 * The frames of a stream of two channels: a byte with the channel, three of nothing, four with the length, the bytes.
 * A part of a frame is passed on as it comes: one may be of any size.
 */
async function* framesOf(
  stream: AsyncIterable<Uint8Array | string>,
): AsyncGenerator<{ channel: number; bytes: Buffer }> {
  let header = Buffer.alloc(0)
  let channel = 0
  let left = 0
  for await (const chunk of stream) {
    let rest = Buffer.from(chunk as Uint8Array)
    while (rest.length > 0) {
      if (left === 0) {
        const wanted = HEADER_BYTES - header.length
        header = Buffer.concat([header, rest.subarray(0, wanted)])
        rest = rest.subarray(wanted)
        if (header.length < HEADER_BYTES) break
        channel = header[0] ?? 0
        left = header.readUInt32BE(4)
        header = Buffer.alloc(0)
      }
      const bytes = rest.subarray(0, left)
      rest = rest.subarray(bytes.length)
      left -= bytes.length
      if (bytes.length > 0) yield { channel, bytes }
    }
  }
}

/** Gives the container the keys as they are pressed and the window's size. @returns a function that undoes it */
async function enterRaw(exec: Docker.Exec): Promise<() => void> {
  const { stdin, stdout } = process
  const resize = () => void exec.resize({ h: stdout.rows, w: stdout.columns }).catch(() => undefined)
  stdin.setRawMode(true)
  stdout.on('resize', resize)
  resize()
  return () => {
    stdout.off('resize', resize)
    stdin.setRawMode(false)
    // A terminal that is still being read would keep the command from ending.
    stdin.destroy()
  }
}
