import type Docker from 'dockerode'

/** What a benchmark makes past the worker bears this, so that one that is cut short leaves no container behind. */
export const LABELS = { 'agirunner.bench': String(process.pid) } as const

/** The same as arguments of `docker run` and `podman run`. */
export const LABEL_ARGUMENTS = Object.entries(LABELS).map(([name, value]) => `--label=${name}=${value}`)

/** Removes the containers of this process that are still there, running or not. */
export async function removeLeftOver(docker: Docker): Promise<void> {
  const filters = { label: Object.entries(LABELS).map(([name, value]) => `${name}=${value}`) }
  const left = await docker.listContainers({ all: true, filters })
  await Promise.all(left.map(({ Id }) => docker.getContainer(Id).remove({ force: true })))
}
