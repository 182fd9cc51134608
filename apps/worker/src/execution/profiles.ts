import { type EngineFacts, type Task, TaskFailure } from '@agirunner/contracts'

/** What a profile gives a container beside its user. */
interface Profile {
  readonly readOnlyRoot: boolean
  readonly capabilities: readonly string[]
}

export const PROFILES: Readonly<Record<Task['environment']['profile'], Profile>> = {
  user: { readOnlyRoot: true, capabilities: [] },
  // What `apt-get install` and the like need of root, and nothing more.
  root: { readOnlyRoot: false, capabilities: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETUID', 'SETGID'] },
}

/** What the operator lets tasks ask for, and what there is. */
export interface ProfilePolicy {
  readonly allowRootProfile: boolean
  /** OCI runtimes that tasks may name. */
  readonly allowedRuntimes: readonly string[]
  readonly info: { readonly facts: Pick<EngineFacts, 'runtimes'> }
}

/**
 * @throws TaskFailure `spec.forbidden` for what the operator does not allow, `environment.unsupported` for what this
 *   machine does not have
 */
export function refuseProfile({ profile, runtime }: Task['environment'], policy: ProfilePolicy): void {
  if (profile === 'root') refuseRoot(policy)
  if (runtime !== null) refuseRuntime(runtime, policy)
}

function refuseRoot({ allowRootProfile }: ProfilePolicy): void {
  if (!allowRootProfile) {
    throw new TaskFailure('spec.forbidden', 'environment.profile "root" is switched off by the operator', {
      hint: 'use the profile "user", or have the operator set AGIRUNNER_ALLOW_ROOT_PROFILE=1',
    })
  }
  // Its tasks run as its own uid: then they would be somebody else than the profile says.
  if (process.getuid?.() !== 0) {
    throw new TaskFailure(
      'environment.unsupported',
      'environment.profile "root" needs a worker that is root',
      {
        hint: 'use the profile "user", or run the worker as root',
      },
    )
  }
}

function refuseRuntime(runtime: string, { allowedRuntimes, info }: ProfilePolicy): void {
  if (!allowedRuntimes.includes(runtime)) {
    throw new TaskFailure(
      'spec.forbidden',
      `environment.runtime "${runtime}" is not allowed by the operator`,
      {
        hint: 'leave it out, or have the operator name it in AGIRUNNER_RUNTIMES',
      },
    )
  }
  if (!info.facts.runtimes.includes(runtime)) {
    throw new TaskFailure('environment.unsupported', `the engine has no runtime "${runtime}"`, {
      hint: "install it and name it in the engine's configuration, or leave environment.runtime out",
    })
  }
}
