export { reapDisk, reapDisks, TaskDisks } from './disk/task-disks.js'
export { reapMemory } from './memory.js'
export { probeDisks, probeLate, probeStrategy } from './probe.js'
export type { PushWatch } from './push.js'
export type { GitLimits } from './remotes.js'
export { knownSecrets, secretsCapability } from './secrets.js'
export { readOwner, type SlotOwner, writeOwner } from './slots.js'
export { type EarlierArtifacts, StoredArtifacts } from './sources/earlier-artifacts.js'
export {
  type BranchPush,
  createWorkspaces,
  type PrepareOptions,
  type Workspaces,
} from './workspaces.js'
