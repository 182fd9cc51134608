import { ALLOWED, NOT_THERE } from './syscalls.js'

/**
 * A condition on one argument of a call. All of its 64 bits are compared, whatever the call itself reads; of several
 * rules for one call one must hold.
 */
interface Condition {
  readonly index: number
  readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_MASKED_EQ'
  readonly value: number
  readonly valueTwo?: number
}

interface Rule {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO'
  readonly errnoRet?: number
  readonly args?: readonly Condition[]
}

const EPERM = 1
const ENOSYS = 38

/** Linux's AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK. */
const FAMILIES: readonly number[] = [1, 2, 10, 16]

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: what makes a namespace. */
const NEW_NAMESPACES = 0x7e02_0000

/** The usual Linux, PER_LINUX32, UNAME26 and both, and the question which one it is. */
const PERSONALITIES: readonly number[] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff]

const allow = (name: string, ...args: readonly Condition[]): Rule => ({
  names: [name],
  action: 'SCMP_ACT_ALLOW',
  args,
})
const equal = (value: number): Condition => ({ index: 0, op: 'SCMP_CMP_EQ', value })

/**
 * Which system calls a container may make, in the form that the engine takes. Anything else is refused with EPERM, which
 * programs expect of a call that takes root.
 *
 * Both profiles of tasks have this one: nothing in it hangs on capabilities, because none of the root profile's five opens
 * a call. x32 is left out, whose calls no other filter knows.
 */
function makeProfile() {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    ],
    syscalls: [
      { names: ALLOWED, action: 'SCMP_ACT_ALLOW' },
      // By a list of families. "All but AF_ALG and AF_VSOCK" would not hold: a filter sees 64 bits of which the kernel then
      // reads 32, so 2^32 + 38 is above every family, and opens AF_ALG.
      ...FAMILIES.map(family => allow('socket', equal(family))),
      allow('clone', { index: 0, op: 'SCMP_CMP_MASKED_EQ', value: NEW_NAMESPACES, valueTwo: 0 }),
      ...PERSONALITIES.map(persona => allow('personality', equal(persona))),
      { names: NOT_THERE, action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ] satisfies Rule[],
  }
}

/** The profile as the JSON text that `SecurityOpt` carries: `seccomp=` and this. */
export const SECCOMP_PROFILE: string = JSON.stringify(makeProfile())
