import { hostId, newWorkerId } from '../support/identity.js'
import { createWorkspaces } from '../workspace/index.js'
import { accept, NOTHING_EARLIER, QUIET, volumeEngine } from './workspace-fixture.js'

// A worker's workspaces in a process of their own, for a test that kills it: prepares what it is sent.
const room = createWorkspaces({
  dataDir: process.argv[2] ?? '',
  engine: volumeEngine(),
  owner: { worker: newWorkerId(), host: hostId(), stack: 'test' },
  strategy: 'copy',
  disks: null,
  allowPrivate: true,
  hostRoots: [],
  earlier: NOTHING_EARLIER,
  cache: { maxBytes: 10 * 2 ** 30, minFreeBytes: 0 },
})
process.on('message', source => {
  const progress = (data: Record<string, unknown>) => process.send?.(data)
  void room
    .prepare(accept(source as Record<string, unknown>), { ...QUIET, progress })
    .then(() => process.send?.({ stage: 'ready' }))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ stage: 'started' })
