export { type ProbeOptions, probeStrategy } from './probe.js'
export { GIT_LIMITS, type GitLimits } from './remotes.js'
export {
  createWorkspaces,
  type PrepareOptions,
  type Workspaces,
  type WorkspacesOptions,
} from './workspaces.js'
