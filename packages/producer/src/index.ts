export { StorageConfigError, type StorageOptions, storageOptions } from '@agirunner/storage'
export type { WatchOptions } from './containers.js'
export type { Enqueued } from './enqueue.js'
export {
  ArtifactUnavailableError,
  PatchUnavailableError,
  ProducerClosedError,
  ProducerError,
  RedisUnavailableError,
  TaskConflictError,
  UnknownTaskError,
} from './errors.js'
export type { FollowOptions } from './follow.js'
export type { SendableTask } from './prepare.js'
export { createProducer, type Producer, type ProducerOptions } from './producer.js'
