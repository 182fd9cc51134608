import { bootstrapStepName, type Task } from '@agirunner/contracts'

/**
 * What a gate runs, in the order of its marks: a name for each command of the bootstrap and each step; null for a `run`
 * without steps that comes after a bootstrap. Empty when the gate has but one command.
 */
export function commandNames({ environment, run }: Task): (string | null)[] {
  const before = environment.bootstrap.map((_command, index) => bootstrapStepName(index))
  const own = run.steps?.map(({ name }) => name) ?? (before.length > 0 ? [null] : [])
  return [...before, ...own]
}
