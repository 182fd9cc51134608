import { execFileSync } from 'node:child_process'

const BASE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

/** An image that a test made; it holds what the base image holds, and one thing more. */
export interface DerivedImage {
  readonly name: string
  remove(): void
}

let made = 0

/**
 * Makes an image of the base image, without a builder: a command changes the files, instructions the rest.
 *
 * @param options.files a shell script, run as root without network
 * @param options.instructions as in a Dockerfile: `ENV`, `VOLUME`, `ENTRYPOINT` and the like
 */
export function deriveImage({
  files = 'true',
  instructions = [],
}: {
  files?: string
  instructions?: readonly string[]
}): DerivedImage {
  made += 1
  const name = `agirunner-test/derived-${process.pid}-${made}:1`
  const container = `agirunner-test-derive-${process.pid}-${made}`
  try {
    docker('run', '--name', container, '--network', 'none', '--user', '0:0', BASE, '/bin/sh', '-c', files)
    const changes = instructions.flatMap(instruction => ['--change', instruction])
    docker('commit', ...changes, container, name)
  } finally {
    docker('rm', '-f', '-v', container)
  }
  return { name, remove: () => void docker('rmi', '-f', name) }
}

export function docker(...args: readonly string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] }).trim()
}
