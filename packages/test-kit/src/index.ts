export { connectEngine } from './engine.js'
export { type EventuallyOptions, eventually } from './eventually.js'
export { type GitOptions, git } from './git.js'
export { type GitRequest, type GitServer, type GitServerOptions, serveGit } from './git-server.js'
export { type Asked, type HostileGit, type HostileKind, serveHostileGit } from './hostile/server.js'
export { expectNoLeaks, type LeakOptions, leaks } from './leaks.js'
export { type PrivateEngine, startPrivateEngine } from './private-engine.js'
export { type ProcessInfo, processTree } from './processes.js'
export {
  type PrivateRedis,
  removeQueue,
  startPrivateRedis,
  startRedis,
  type TestRedis,
  uniqueQueue,
} from './redis.js'
export { dumpRedis } from './redis-dump.js'
export {
  type BuiltImage,
  buildImage,
  buildIndex,
  layerOf,
  ownPlatform,
  type TestImage,
} from './registry/image.js'
export { MISBEHAVIOURS, type MisbehaviourKind } from './registry/misbehaviour.js'
export {
  type RegistryOptions,
  type RegistryPart,
  type RegistryRequest,
  serveRegistry,
  type TestRegistry,
} from './registry/server.js'
export {
  createRepository,
  type FileContent,
  type Files,
  manyFiles,
  type Repository,
  type RepositoryBuilder,
  type RepositoryOptions,
} from './repository.js'
export { startS3, type TestS3 } from './s3.js'
export { findSecret, type SecretForm, secretForms } from './secret-search.js'
export { startWorker, type TestWorker, type TestWorkerOptions, type WorkerExit } from './worker.js'
