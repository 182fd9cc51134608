import type { Producer } from '@agirunner/producer'

/** What the workers tell of what goes on. */
export type Live = Pick<Producer, 'activity' | 'recent' | 'watchContainers'>
