import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Capability } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { Secret } from '../support/secret.js'
import type { Slot, Strategy } from './plan.js'
import { type FileOwner, isRoot } from './slots.js'

/** Secrets go into a file system in memory, which the worker mounts and the engine shows to the container. */
export function whyNoSecrets(strategy: Strategy): string | null {
  if (strategy === 'archive')
    return 'the engine shares no memory with the worker, and a volume of its own is on a disk'
  if (!isRoot()) return 'the worker is not root, so it can’t mount memory for them'
  return null
}

/** What this worker can do for tasks with secrets. */
export function secretsCapability(strategy: Strategy): Capability {
  const why = whyNoSecrets(strategy)
  const name = 'secrets'
  if (why === null)
    return { name, state: 'enforced', detail: 'in memory of each task’s own, on no disk', fix: null }
  return { name, state: 'missing', detail: why, fix: 'run the worker as root beside the engine' }
}

/** Where a slot keeps the files that the task finds in /run/secrets; null where the task has none. */
export function secretsFolder({ memory }: Slot): string | null {
  return memory === null ? null : join(memory, 'secrets')
}

/** Writes the secrets that a task wants as files: the exact bytes, for the task's own user alone. */
export function writeSecrets(slot: Slot, { secrets }: AcceptedTask, owner: FileOwner): void {
  const folder = secretsFolder(slot)
  if (folder === null || slot.memory === null) return
  writeFileSync(join(slot.memory, KNOWN), encodeKnown(secrets), { mode: 0o600, flag: 'wx' })
  mkdirSync(folder, { mode: 0o755, recursive: true })
  for (const [name, { value, as }] of secrets) {
    if (as === 'env') continue
    const path = join(folder, name)
    writeFileSync(path, value.reveal(), { mode: 0o400, flag: 'wx' })
    chownSync(path, owner.uid, owner.gid)
  }
}

/** Outside of what the task sees of its memory. */
const KNOWN = 'known.json'

function encodeKnown(secrets: AcceptedTask['secrets']): string {
  const pairs = [...secrets].map(([name, { value }]) => [name, value.reveal().toString('base64')])
  return JSON.stringify(pairs)
}

/**
 * The secrets that a slot's task was given. An operator may have replaced them since, and what the task prints are these.
 *
 * @throws Error when they are not there any more
 */
export function knownSecrets({ memory }: Pick<Slot, 'memory'>): { name: string; value: Secret }[] {
  if (memory === null) return []
  const pairs = JSON.parse(readFileSync(join(memory, KNOWN), 'utf8')) as [string, string][]
  return pairs.map(([name, text]) => ({ name, value: new Secret(Buffer.from(text, 'base64')) }))
}
