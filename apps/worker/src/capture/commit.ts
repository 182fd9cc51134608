import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Changes } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import type { CommitRequest, MadeCommit } from './changes/index.js'

/** Where an attempt's packs are while they are made: in its slot, which goes with it. Laid out as a repository. */
export function packOf({ slot }: WorkspacePlan, name: 'made' | 'kept'): string {
  return join(slot.root, name, 'objects/pack', `pack-${name}.pack`)
}

/**
 * How the change of a task becomes one commit; null when nobody asks for one. Its date is the task's: an attempt that
 * comes to the same files makes the same commit.
 *
 * @param folder for what is kept
 */
export function commitRequest(
  accepted: AcceptedTask,
  plan: WorkspacePlan,
  folder: string,
): CommitRequest | null {
  const { task } = accepted
  const { changes, push } = task.capture
  if (changes !== 'commit' && push === null) return null
  return {
    ...saidOf(accepted),
    ref: `refs/heads/${push?.branch ?? `agirunner/${task.taskId}`}`,
    pack: packOf(plan, 'made'),
    bundle: changes === 'commit' ? join(folder, 'changes.bundle') : null,
    secrets: secretsOf(accepted),
  }
}

/** Who made the runtime's own commits, when, and why. */
export function saidOf({ task, createdAt }: AcceptedTask): Pick<CommitRequest, 'by' | 'message'> {
  const at = Math.max(0, Math.floor(Date.parse(createdAt) / 1000) || 0)
  const message = task.capture.push?.message ?? `Changes of task ${task.taskId}`
  return { by: { ...task.workspace.identity, at }, message }
}

/** Everything that a task was given to keep to itself, as a child process is told it. */
export function secretsOf(accepted: AcceptedTask): CommitRequest['secrets'] {
  const { credentials, registryCredentials, secrets } = accepted
  const all = [
    ...(credentials ? [['workspace.source.credentials', credentials.password] as const] : []),
    ...(registryCredentials
      ? [['environment.registryCredentials', registryCredentials.password] as const]
      : []),
    ...[...secrets].map(([name, { value }]) => [name, value] as const),
  ]
  return all.map(([name, value]) => ({ name, base64: value.reveal().toString('base64') }))
}

/** The changes with the commit that was asked for, or with the reason why there is none. */
export function withCommit(changes: Changes, make: CommitRequest | null, made: MadeCommit | null): Changes {
  if (make?.bundle == null) return changes
  if (made === null)
    return { ...changes, notes: [...changes.notes, 'nothing changed, so there is no commit'] }
  if (made.holdsSecret) return { ...changes, notes: [...changes.notes, WITHHELD] }
  const bundle = made.bundle && { uri: pathToFileURL(make.bundle).href, ...made.bundle }
  return { ...changes, commit: made.sha, bundle }
}

const WITHHELD = 'the commit holds one of the task’s secrets, so it is withheld'
