import { execFileSync } from 'node:child_process'

const BASE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const PROGRAMS = 'sh env wc cat mkdir mv chmod rm cp sleep id ls'

/** The files of a few programs and what they need, as they are in the base image: some megabytes that run tasks. */
const COLLECT = `
  set -- $(for name in ${PROGRAMS}; do command -v $name; done)
  libraries=$(for file; do ldd "$file"; done | grep -o '/[^ ]*' | sort -u)
  cd / && tar -chf - bin/sh $(for file in "$@" $libraries; do echo ".$file"; done)`

/** A layer that an image can be made of which runs tasks, for a registry that a test serves. */
export function smallRootLayer(): Buffer {
  const args = ['run', '--rm', '--network', 'none', '--entrypoint', '/bin/sh', BASE, '-c', COLLECT]
  return execFileSync('docker', args, { maxBuffer: 2 ** 27, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The image's configuration that goes with it. */
export const SMALL_CONFIG = { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] }
