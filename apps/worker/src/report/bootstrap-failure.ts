import { bootstrapStepName, type Task, TaskFailure } from '@agirunner/contracts'
import type { Exit } from '../execution/running-container.js'

/** How much of a command is quoted in a message. */
const SHOWN = 60

/** What an exit during the bootstrap amounts to where it is no task's failure: which command failed, and how. */
export function bootstrapFailure({ environment }: Task, exit: Exit): TaskFailure {
  const began = exit.marks.steps.filter(({ index }) => index < environment.bootstrap.length)
  const last = began.findLast(({ exitCode }) => exitCode !== 0) ?? began.at(-1)
  const index = last?.index ?? 0
  const which = `${bootstrapStepName(index)} (${shown(environment.bootstrap[index] ?? '')})`
  const how =
    exit.cause === 'deadline'
      ? 'was not done when the time that the operator gives a bootstrap was up'
      : `ended with exit code ${last?.exitCode ?? exit.code}`
  return new TaskFailure('environment.bootstrap_failed', `${which} ${how}`, {
    phase: 'bootstrap',
    ...(exit.cause === 'deadline'
      ? { hint: 'make it shorter, use an image that holds more, or have AGIRUNNER_BOOTSTRAP_SECONDS raised' }
      : {}),
  })
}

function shown(command: string | readonly string[]): string {
  const text = JSON.stringify(typeof command === 'string' ? command : command.join(' '))
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…"` : text
}
