import { SECCOMP_PROFILE } from '../seccomp/profile.js'

/** What every container gets, whoever it is for. AppArmor or SELinux are the engine's own to add. */
export const SECURITY_OPTIONS: readonly string[] = ['no-new-privileges', `seccomp=${SECCOMP_PROFILE}`]
