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
  data: 'agirunner.data',
} as const

export type Kind = 'task' | 'parked' | 'helper'

/** Who makes containers: one worker process of one stack (a Redis, a queue and their data). */
export interface Owner {
  readonly worker: string
  readonly host: string
  readonly stack: string
  /** The worker's data folder: there a reaper of whatever stack finds who has taken over what a dead worker left. */
  readonly data?: string
}

export function labelsOf(owner: Owner, kind: Kind, slot: string, image = ''): Record<string, string> {
  return {
    [LABELS.managed]: 'true',
    [LABELS.worker]: owner.worker,
    [LABELS.host]: owner.host,
    [LABELS.stack]: owner.stack,
    [LABELS.data]: owner.data ?? '',
    [LABELS.kind]: kind,
    [LABELS.slot]: slot,
    [LABELS.image]: image,
  }
}

/**
 * The name of a container that outlasts its task. Labels can't change, and a reaper of another stack knows no data
 * folder of ours: so the name tells everybody until when it is nobody else's.
 *
 * @param until in Unix milliseconds
 */
export function keptName(name: string, until: number): string {
  return `${name}-kept-${Math.ceil(until / 1000)}`
}

/** Until when a container is kept, in Unix milliseconds; null for one that is not. */
export function keptUntil(name: string): number | null {
  const [, seconds] = /-kept-(\d+)$/.exec(name) ?? []
  return seconds === undefined ? null : Number(seconds) * 1000
}
