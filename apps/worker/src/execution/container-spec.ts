import type { ContainerSpec, EngineInfo, ImageInfo } from '../engine/engine.js'
import { type Kind, labelsOf, type Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { type Delivery, PARTS, type Part, type Slot, type WorkspacePlan } from '../workspace/plan.js'
import { secretsFolder } from '../workspace/secrets.js'
import { GATE_COMMAND, INSIDE } from './gate.js'
import { volumeTmpfs } from './images/fit.js'
import type { TaskNetwork } from './network/networks.js'
import { PROFILES } from './profiles.js'
import type { Shape } from './shape.js'

/** What a task may read and not change, whoever it runs as. */
const READ_ONLY: readonly Part[] = ['context', 'gate']

/** A name that says what it is, the same for the same attempt: a second create of it answers 409. */
export function containerName({ task, attempt }: Pick<AcceptedTask, 'task' | 'attempt'>): string {
  return `agirunner-${task.taskId}-${attempt}`
}

export interface SpecOptions {
  readonly name: string
  readonly kind: Kind
  readonly slot: Slot
  readonly user: WorkspacePlan['owner']
  /** Where the parts of its workspace are, or will be. */
  readonly delivery: Pick<Delivery, 'mounts'>
  /** Whether the repository is only to be read. */
  readonly readOnly: boolean
  readonly owner: Owner
  readonly image: ImageInfo
  readonly engine: EngineInfo
  readonly network: Pick<TaskNetwork, 'name' | 'dns'>
}

/** A container of that shape. Nothing of a task's text reaches it but through the gate's file. */
export function containerSpec(shape: Shape, options: SpecOptions): ContainerSpec {
  const { resources, profile } = shape
  const { slot, user, delivery } = options
  const secrets = secretsFolder(slot)
  return {
    name: options.name,
    image: options.image.id,
    command: GATE_COMMAND,
    // Docker's init passes a signal to the whole process group, so that a trap in a script runs at once.
    env: ['TINI_KILL_PROCESS_GROUP=1'],
    labels: labelsOf(options.owner, options.kind, slot.id, shape.reference),
    user: `${user.uid}:${user.gid}`,
    ...PROFILES[profile],
    mounts: [
      ...PARTS.map(part => ({
        ...delivery.mounts[part],
        target: INSIDE[part],
        readOnly: READ_ONLY.includes(part) || (part === 'repo' && options.readOnly),
      })),
      ...(secrets === null
        ? []
        : [{ type: 'bind' as const, source: secrets, target: INSIDE.secrets, readOnly: true }]),
    ],
    tmpfs: {
      ...volumeTmpfs(options.image, resources.tmp),
      '/tmp': `rw,exec,nosuid,nodev,mode=1777,size=${resources.tmp}`,
    },
    // A limit above what the machine has is no limit: the engine would refuse it.
    ...limitsOf(resources, options.engine),
    pids: resources.pids,
    shmBytes: resources.shm,
    network: options.network.name,
    dns: options.network.dns,
    runtime: shape.runtime,
  }
}

/** The secrets that a task wants as variables, by name. They are set apart from the others. */
export function secretVariables({ secrets }: AcceptedTask): ReadonlyMap<string, Buffer> {
  const wanted = [...secrets].filter(([, { as }]) => as !== 'file')
  return new Map(wanted.map(([name, { value }]) => [name, value.reveal()]))
}

/**
 * What the task finds in its environment: the runtime's own names win over the task's, and the task's over those of its
 * network.
 */
export function taskEnvironment(accepted: AcceptedTask, network: TaskNetwork): Record<string, string> {
  const { task, attempt } = accepted
  const { name, email } = task.workspace.identity
  return {
    CI: 'true',
    HOME: INSIDE.home,
    GIT_AUTHOR_NAME: name,
    GIT_AUTHOR_EMAIL: email,
    GIT_COMMITTER_NAME: name,
    GIT_COMMITTER_EMAIL: email,
    ...(task.traceparent === null ? {} : { TRACEPARENT: task.traceparent }),
    ...network.env,
    ...task.environment.env,
    AGIRUNNER_TASK_ID: task.taskId,
    AGIRUNNER_ATTEMPT: String(attempt),
    AGIRUNNER_WORKSPACE: INSIDE.workspace,
    AGIRUNNER_CONTEXT: INSIDE.context,
    AGIRUNNER_OUTPUT: INSIDE.output,
  }
}

/** An engine refuses more processors than it has. */
export function limitsOf(
  { cpu, memory }: Shape['resources'],
  { cpus }: EngineInfo,
): Pick<ContainerSpec, 'cpus' | 'memoryBytes'> {
  return { cpus: Math.min(cpu, cpus), memoryBytes: memory }
}
