/**
 * Labels are written when a container or volume is made and never change, so they hold only what is known then.
 * The reaper reads nothing else to decide what is ours.
 */
export const LABELS = {
  managed: 'agirunner.managed',
  worker: 'agirunner.worker',
  host: 'agirunner.host',
  kind: 'agirunner.kind',
  slot: 'agirunner.slot',
  image: 'agirunner.image',
  stack: 'agirunner.stack',
} as const

export type Kind = 'task' | 'parked' | 'helper'

/** Who makes containers: one worker process of one stack (a Redis, a queue and their data). */
export interface Owner {
  readonly worker: string
  readonly host: string
  readonly stack: string
}

export function labelsOf(owner: Owner, kind: Kind, slot: string, image = ''): Record<string, string> {
  return {
    [LABELS.managed]: 'true',
    [LABELS.worker]: owner.worker,
    [LABELS.host]: owner.host,
    [LABELS.stack]: owner.stack,
    [LABELS.kind]: kind,
    [LABELS.slot]: slot,
    [LABELS.image]: image,
  }
}
