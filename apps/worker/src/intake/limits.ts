import { type Task, TaskFailure } from '@agirunner/contracts'
import type { LimitPolicy, LimitRule } from '../support/limit-policy.js'

/**
 * Holds a task to the operator's limits. What it does not name itself gets the operator's default, or the contract's,
 * lowered to the ceiling where need be; what it names above a ceiling is refused.
 *
 * @param raw the task as it was sent: parsing fills in defaults, so only there can be seen what the task named
 * @throws TaskFailure `spec.forbidden` with every limit that is too high
 */
export function holdToLimits(task: Task, raw: unknown, policy: LimitPolicy): Task {
  const held = {
    resources: { ...task.environment.resources } as Record<string, number>,
    limits: { ...task.limits } as Record<string, number | null>,
  }
  const named = namedIn(raw)
  const problems: string[] = []
  for (const rule of policy) {
    const asked = held[rule.group][rule.key] as number
    const ceiling = rule.ceiling ?? Number.POSITIVE_INFINITY
    if (!named(rule)) held[rule.group][rule.key] = Math.min(rule.fallback ?? asked, ceiling)
    else if (asked > ceiling) problems.push(describe(rule, asked, ceiling))
  }
  if (problems.length > 0) {
    throw new TaskFailure('spec.forbidden', `more than the operator allows: ${problems.join('; ')}`, {
      hint: 'ask for less, or have the operator raise what is named',
    })
  }
  return {
    ...task,
    environment: { ...task.environment, resources: held.resources as Task['environment']['resources'] },
    limits: held.limits as Task['limits'],
  }
}

function describe({ group, key, show, variable }: LimitRule, asked: number, ceiling: number): string {
  const path = group === 'resources' ? `environment.resources.${key}` : `limits.${key}`
  return `${path} is ${show(asked)}, at most ${show(ceiling)} (AGIRUNNER_MAX_${variable})`
}

/** Whether a task, an object or JSON text, names a limit itself. It was parsed before, so it has the form of a task. */
function namedIn(raw: unknown): (rule: LimitRule) => boolean {
  const task = (typeof raw === 'string' ? JSON.parse(raw) : raw) as Readonly<{
    environment?: { resources?: Record<string, unknown> }
    limits?: Record<string, unknown>
  }>
  const groups = { resources: task.environment?.resources, limits: task.limits }
  return ({ group, key }) => groups[group]?.[key] !== undefined
}
