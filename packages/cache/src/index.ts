export { Cache, type CacheBudget, type CacheItem, type CacheMeta, type Pruned, readMeta } from './cache.js'
export { Entry, type Unpin } from './entry.js'
export { removeTree } from './remove-tree.js'
