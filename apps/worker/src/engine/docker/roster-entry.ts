import type { MadeContainer } from '../../support/roster.js'
import type { ContainerSpec } from '../engine.js'
import { type Kind, LABELS } from '../labels.js'

/** A container that is made to that spec, as the roster has it. */
export function madeOf({ name, image, labels, cpus, memoryBytes, pids }: ContainerSpec): MadeContainer {
  return {
    name,
    kind: (labels[LABELS.kind] ?? 'helper') as Kind,
    image: labels[LABELS.image] || image,
    imageId: image,
    limits: { cpus, memoryBytes, pids },
  }
}
