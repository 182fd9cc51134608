import { connectEngine } from '@agirunner/test-kit'

type HostConfig = Readonly<Record<string, unknown>>

export interface RawRun {
  readonly image: string
  readonly command: readonly string[]
  readonly user?: string
  /** What of the sandbox is off; by default the container has what the engine itself gives. */
  readonly host?: HostConfig
}

/**
 * Runs a container past the runtime, for controls: the attack of which a test says that the sandbox stops it. Without a
 * network, with bounds, and removed at its end.
 */
export async function runRaw({ image, command, user = '0:0', host = {} }: RawRun) {
  const docker = connectEngine()
  const container = await docker.createContainer({
    Image: image,
    Entrypoint: [],
    Cmd: [...command],
    User: user,
    Env: ['HOME=/tmp'],
    Tty: false,
    Labels: { 'agirunner.test': 'control' },
    HostConfig: { NetworkMode: 'none', Memory: 256 * 2 ** 20, PidsLimit: 64, ...host },
  })
  try {
    await container.start()
    const { StatusCode: code } = (await container.wait()) as { StatusCode: number }
    const log = await container.logs({ stdout: true, stderr: true })
    return { code, output: withoutFrames(log) }
  } finally {
    await container.remove({ force: true, v: true })
  }
}

/** Takes off the engine's frames: a byte for the stream, three of nothing and four for the length. */
function withoutFrames(log: Buffer): string {
  const parts: Buffer[] = []
  for (let at = 0; at + 8 <= log.length; ) {
    const end = at + 8 + log.readUInt32BE(at + 4)
    parts.push(log.subarray(at + 8, end))
    at = end
  }
  return Buffer.concat(parts).toString('utf8')
}

/** An image of the base one with a setuid-root `id` in it. */
export async function importSetuidImage(base: string) {
  const docker = connectEngine()
  const name = `agirunner-test/setuid-${process.pid}:1`
  const container = await docker.createContainer({
    Image: base,
    Cmd: ['sh', '-c', 'cp /usr/bin/id /usr/bin/root-id && chmod 4755 /usr/bin/root-id'],
    Labels: { 'agirunner.test': 'control' },
    HostConfig: { NetworkMode: 'none' },
  })
  try {
    await container.start()
    await container.wait()
    const [repo, tag] = name.split(':')
    await container.commit({ repo, tag })
  } finally {
    await container.remove({ force: true })
  }
  return { name, remove: () => docker.getImage(name).remove({ force: true }) }
}
