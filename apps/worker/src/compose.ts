import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Capability,
  DEFAULT_IMAGE,
  REDIS_PREFIX,
  type RedisNames,
  redisNames,
  type TaskJobData,
  type WorkerRecord,
} from '@agirunner/contracts'
import { ObjectStore } from '@agirunner/storage'
import { DelayedError, type Job, UnrecoverableError, WaitingError, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import { Adopter } from './adopt.js'
import { createChangesCapture } from './capture/changes/index.js'
import { BucketStorage, LOCAL_STORAGE } from './capture/storage.js'
import { sweepBucket } from './cleanup/bucket-sweep.js'
import { Reaper } from './cleanup/reaper.js'
import { sweepArtifacts } from './cleanup/retention.js'
import type { Config } from './config.js'
import { type ConsumeOptions, consume } from './consume.js'
import { openTaskGroups } from './engine/cgroup/open.js'
import type { TaskGroups } from './engine/cgroup/task-groups.js'
import { dockerEngine } from './engine/docker/docker-engine.js'
import type { ContainerEngine, EngineInfo } from './engine/engine.js'
import type { Owner } from './engine/labels.js'
import { isLocalEngine } from './engine/local.js'
import { probeCage } from './execution/cage-probe.js'
import { Execution } from './execution/execution.js'
import { Distros } from './execution/images/distros.js'
import { createImages } from './execution/images/index.js'
import { Keeper } from './execution/keep.js'
import { Networks } from './execution/network/networks.js'
import { park } from './execution/parking/parked-container.js'
import { ParkingLot } from './execution/parking/parking-lot.js'
import { sharedLimits } from './execution/shared-limits.js'
import { Cancellations } from './intake/cancellations.js'
import { Channels } from './intake/channels.js'
import { startHeartbeat } from './intake/heartbeat.js'
import { TaskRecords } from './intake/records.js'
import { ContainerRoster } from './observe/container-roster.js'
import { LiveContainers } from './observe/live-containers.js'
import { openObserving } from './observe/observing.js'
import { queueDepth } from './observe/queue-depth.js'
import { cancelWaiting, expireWaiting } from './report/waiting.js'
import { Backlog } from './support/backlog.js'
import { freeBytes } from './support/free-bytes.js'
import { hostId, newWorkerId } from './support/identity.js'
import { ReleaseStack, sleep } from './support/lifecycle.js'
import { boundByMachine } from './support/limit-policy.js'
import { type Log, messageOf } from './support/log.js'
import { connectRedis } from './support/redis.js'
import type { Roster } from './support/roster.js'
import type { Strategy } from './support/strategy.js'
import {
  createWorkspaces,
  probeDisks,
  probeLate,
  probeStrategy,
  StoredArtifacts,
  secretsCapability,
  TaskDisks,
  type Workspaces,
} from './workspace/index.js'

/** Redelivery of a dead worker's job after about 9 s; equal on every worker, because any of them may find it. */
const BULLMQ = { lockDuration: 10_000, stalledInterval: 5_000, maxStalledCount: 1_000_000 }
const REAP_MS = 10_000
const SWEEP_MS = 10 * 60_000
const PRUNE_MS = 30_000
/** How late a task may hear that its `limits.queue` is over. */
const EXPIRE_MS = 500
const NETWORKS_MS = 10_000
/** What waits must leave so many times its disk free: it takes no room from tasks. */
const PARKING_ROOM = 4
/** A task of a newer version is offered again after this long. */
const NEWER_MS = 30_000

export interface RunningWorker {
  readonly id: string
  readonly strategy: string
  /** Where it answers for itself; null for nowhere. */
  readonly http: () => string | null
  /** Stops claiming, lets tasks end for the drain time, gives the rest back, and releases everything. */
  drain(): Promise<void>
  /** Gives the running tasks back now. */
  hurry(): void
}

/**
 * Builds the worker from its parts and starts it. The only place that knows which adapter stands behind which
 * interface.
 *
 * @throws TaskFailure `engine.unavailable` when there is no engine to work with
 */
export async function startWorker(config: Config, log: Log): Promise<RunningWorker> {
  const release = new ReleaseStack((what, error) =>
    log.warn('release failed', { what, reason: messageOf(error) }),
  )
  try {
    return await compose(config, log, release)
  } catch (error) {
    await release.all()
    throw error
  }
}

async function compose(config: Config, log: Log, release: ReleaseStack): Promise<RunningWorker> {
  for (const folder of ['slots', 'artifacts', 'snapshots']) {
    await mkdir(join(config.dataDir, folder), { recursive: true, mode: 0o711 })
  }
  const worker = newWorkerId()
  const { http, traces, queue } = config
  const observing = await openObserving({ http, traces, queue, worker, log }, release)
  const { observer } = observing
  const allowed = { bindRoots: [config.dataDir], runtimes: config.runtimes }
  const names = redisNames(config.queue)
  const redis = connectRedis(config.redisUrl, log)
  release.defer('redis', async () => redis.disconnect())
  const roster = new ContainerRoster({
    worker,
    distroOf: imageId => distros?.of(imageId) ?? null,
    changed: () => live.changed(),
  })
  const key = names.containers(worker)
  // Who looks at the containers looks at the worker too, whose record is some seconds old else.
  const lookAtAll = () => {
    beat()
    return roster.look()
  }
  const live = release.own(new LiveContainers({ redis, key, look: lookAtAll, log }), 'live containers')
  const engine = dockerEngine(config.engine, allowed, code => observer.pulled(code), roster)
  const info = await engine.info()
  const owner: Owner = {
    worker,
    host: hostId(),
    stack: await stackOf(redis, names),
    data: config.dataDir,
  }
  const records = new TaskRecords(redis, names, observer)

  const image = config.catalog.get(DEFAULT_IMAGE)?.image ?? ''
  const cage = await probeCage({ engine, info, owner, image })
  let parking: Parking | null = null
  let distros: Distros | null = null
  const bucket = await openBucket({ config, owner, records, log }, release)
  const workspaces = await makeWorkspaces(
    {
      config,
      engine,
      owner,
      records,
      log,
      store: bucket?.store ?? null,
      giveUpSpares: async () => await parking?.lot?.clear(),
    },
    release,
  )
  const storage = bucket?.storage ?? LOCAL_STORAGE
  const networks = await startNetworks({ engine, owner, config, log }, release)
  const changes = createChangesCapture()
  release.defer('changes capture', () => changes.close())
  const isLocal = isLocalEngine(config.engine.host)
  const images = release.own(await createImages({ ...config, isLocal }, { engine, info, owner }), 'images')
  distros = release.own(new Distros({ engine, verification: images.verification, log }), 'distros')
  const grouping = await openTaskGroups({ info, owner, host: config.engine.host })
  parking = await openParking(
    {
      config,
      engine,
      info,
      owner,
      networks,
      groups: grouping.groups,
      workspaces,
      log,
      changed: () => beat(),
      roster,
    },
    release,
  )
  const execution = new Execution({
    parking: parking.lot,
    engine,
    info,
    owner,
    networks,
    roster,
    images: images.images,
    verification: images.verification,
    bootstrapMs: config.bootstrapMs,
    groups: grouping.groups,
    allowRootProfile: config.allowRootProfile,
    allowedRuntimes: config.runtimes,
    beforeRun: async accepted => {
      await records.markRan(accepted.task.taskId, accepted.fence, accepted.attempt)
    },
    notStarted: async accepted => {
      await records.unmarkRan(accepted.task.taskId, accepted.fence, accepted.attempt)
    },
  })

  const channels = release.own(new Channels(redis.duplicate()), 'channels')
  channels.hear(names.lookChannel, () => live.looked())
  const cancellations = new Cancellations({
    channels,
    names,
    records,
    onElsewhere: taskId =>
      void cancelWaiting(taskId, consumeOptions).catch(error =>
        log.warn('cancel failed', { reason: messageOf(error) }),
      ),
  })

  const reaper = new Reaper({
    engine,
    owner,
    groups: grouping.groups,
    dataDir: config.dataDir,
    log,
    hasHeartbeat: async id => (await redis.exists(names.worker(id), names.adopted(id))) > 0,
  })
  const reap = async () => observer.reaped(await reaper.reap())
  const drained = new AbortController()
  const owed = new Backlog(config.concurrency)
  const adopter: Adopter = new Adopter({
    consume: () => consumeOptions,
    engine,
    owner,
    dataDir: config.dataDir,
    redis,
    names,
    traceparent: async taskId => {
      const data = await redis.hget(`${REDIS_PREFIX}:${config.queue}:${taskId}`, 'data')
      return data === null ? null : (JSON.parse(data) as TaskJobData).traceparent
    },
    ended: reap,
  })
  const consumeOptions: ConsumeOptions = {
    rooms: {
      workspaces: workspaces.room,
      execution,
      capture: {
        redis,
        names,
        roster,
        dataDir: config.dataDir,
        logCeilingBytes: config.logCeilingBytes,
        captureChanges: options => changes.capture(options),
        collectArtifacts: options => changes.artifacts(options),
        storage,
      },
      push: {
        push: (...args) => workspaces.room.push(...args),
        keepCommits: options => changes.keepCommits(options),
        stillCurrent: accepted => records.assertCurrent(accepted.task.taskId, accepted.fence),
      },
      keeper: new Keeper({
        engine,
        log,
        request: taskId => records.keepRequest(taskId),
        kept: slot => reaper.takeOver(slot),
        maxMs: config.maxKeepMs,
      }),
      owed,
      leaked: (what, error) => {
        observer.leaked()
        log.warn('cleanup failed, the reaper will try again', { what, reason: messageOf(error) })
      },
    },
    records,
    observer,
    cancellations,
    secrets: config,
    limits: boundByMachine(config.limits, info.memoryBytes),
    worker: { id: owner.worker, host: owner.host },
    log,
    adopted: taskId => adopter.running(taskId),
    adopt: () => adopter.round(),
    drained: drained.signal,
  }

  const capabilities = (): Capability[] => [
    ...cage,
    sharedLimits(),
    grouping.capability,
    workspaces.capability,
    secretsCapability(workspaces.strategy),
    parking.capability,
    ...networks.capabilities(),
    images.capability,
    storage.capability(),
  ]
  for (const capability of capabilities()) log.info('capability', { ...capability })
  const beat = () => void heartbeat.now().catch(() => undefined)
  const status = { running: new Set<string>(), draining: false, started: false }
  const running = () => new Set([...status.running, ...adopter.taskIds])
  await observing.serve({
    running: () => running().size,
    concurrency: config.concurrency,
    strategy: workspaces.strategy,
    draining: () => status.draining,
    state: () => (status.draining ? 'draining' : status.started ? 'running' : 'starting'),
    parking: () => parking?.lot?.status(),
    cache: () => workspaces.room.cacheStatus(),
    disk: async () => ({
      freeBytes: await freeBytes(config.dataDir),
      floorBytes: config.cache.minFreeBytes,
    }),
    queue: queueDepth(redis, config.queue),
    redis: () => ping(redis),
    engine: () => engine.ping(),
  })
  const describe = () => ({
    ...workerRecord(config, owner, info, workspaces, {
      ...status,
      running: running(),
    }),
    capabilities: capabilities(),
    ...(parking.lot ? { parking: parking.lot.status() } : {}),
    ...httpOf(observing.url()),
  })
  const heartbeat = release.own(await startHeartbeat({ redis, names, log, describe }), 'heartbeat')
  await channels.start()
  every(EXPIRE_MS, release, log, () => expireWaiting(consumeOptions))
  const tidy = async () => {
    // First: what is not taken over is the reaper's.
    if (!status.draining) await adopter.round()
    await reap()
  }
  await tidy()
  every(REAP_MS, release, log, tidy)
  every(SWEEP_MS, release, log, () => sweepArtifacts(config.dataDir, Date.now()))
  const consumer = startConsuming(config, redis, consumeOptions, status, log)
  release.defer('consumer', () => consumer.close(true))
  status.started = true
  log.info('worker ready', {
    worker: owner.worker,
    engine: `${info.name} ${info.version}`,
    strategy: workspaces.strategy,
    why: workspaces.why,
    concurrency: config.concurrency,
    queue: config.queue,
  })
  return {
    id: owner.worker,
    strategy: workspaces.strategy,
    http: observing.url,
    hurry: () => drained.abort(),
    drain: async () => {
      status.draining = true
      const unparked = parking.lot?.release()
      beat()
      const late = setTimeout(() => drained.abort(), config.drainMs)
      await consumer.close()
      await adopter.settled()
      await owed.settled()
      await unparked
      clearTimeout(late)
      await release.all()
    },
  }
}

interface Parking {
  readonly lot: ParkingLot | null
  readonly capability: Capability
}

/** Containers that wait for tasks, where workspaces can be mounted into them. */
async function openParking(
  parts: {
    config: Config
    engine: ContainerEngine
    info: EngineInfo
    owner: Owner
    networks: Networks
    groups: TaskGroups | null
    workspaces: { room: Workspaces; strategy: Strategy; why: string }
    log: Log
    changed: () => void
    roster: Roster
  },
  release: ReleaseStack,
): Promise<Parking> {
  const { config, engine, info, owner, networks, groups, workspaces, log, roster } = parts
  const name = 'parking'
  const off = (detail: string, fix: string | null) => ({
    lot: null,
    capability: { name, state: 'missing', detail, fix } as const,
  })
  if (config.parking.max === 0) return off('switched off by AGIRUNNER_PARK', null)
  if (workspaces.strategy !== 'late_overlay') {
    const fix = 'run the worker as root beside the engine, with disks of their own for tasks'
    return off(`workspaces can't be mounted into containers that run: ${workspaces.why}`, fix)
  }
  const options = {
    engine,
    info,
    owner,
    networks,
    groups,
    roster,
    makeSlot: workspaces.room.makeSlot.bind(workspaces.room),
  }
  const lot = new ParkingLot({
    ...config.parking,
    log,
    changed: parts.changed,
    park: (shape, image) => park(options, shape, image),
    hasRoom: async diskBytes =>
      (await freeBytes(config.dataDir)) > config.cache.minFreeBytes + PARKING_ROOM * diskBytes,
  })
  release.own(lot, 'parked containers')
  every(PRUNE_MS, release, log, () => lot.prune())
  const detail = `up to ${config.parking.max} containers wait for tasks like those that ran`
  return { lot, capability: { name, state: 'enforced', detail, fix: null } }
}

async function makeWorkspaces(
  parts: {
    config: Config
    engine: ContainerEngine
    owner: Owner
    records: TaskRecords
    log: Log
    store: ObjectStore | null
    giveUpSpares: () => Promise<void>
  },
  release: ReleaseStack,
) {
  const { config, engine, owner, records, log, store, giveUpSpares } = parts
  const probed =
    config.strategy === 'auto'
      ? await probeStrategy(engine, {
          image: config.catalog.get(DEFAULT_IMAGE)?.image ?? '',
          owner,
          dataDir: config.dataDir,
        })
      : { strategy: config.strategy, why: 'set by AGIRUNNER_STRATEGY' }
  const disks = await openDisks({ config, engine, owner, strategy: probed.strategy }, release)
  const chosen = await chooseLate({ config, engine, owner, probed, disks: disks.disks })
  const room = createWorkspaces({
    dataDir: config.dataDir,
    engine,
    owner,
    strategy: chosen.strategy,
    disks: disks.disks,
    allowPrivate: config.gitAllowPrivate,
    cache: config.cache,
    hostRoots: config.hostRoots,
    earlier: new StoredArtifacts(records, config.dataDir, store),
    giveUpSpares,
  })
  release.defer('workspaces', () => room.close())
  const prune = async () => {
    const { removed, bytes, freeBytes } = await room.prune()
    if (removed.length > 0) log.info('evicted from the cache', { entries: removed.length, bytes, freeBytes })
  }
  await prune().catch(error => log.warn('pruning the cache failed', { reason: messageOf(error) }))
  every(PRUNE_MS, release, log, prune)
  log.info('workspace strategy', chosen)
  return { room, ...chosen, capability: disks.capability }
}

/** The best way of all, which needs a disk of the slot's own to mount on, and an engine that passes mounts on. */
async function chooseLate(parts: {
  config: Config
  engine: ContainerEngine
  owner: Owner
  probed: { strategy: Strategy; why: string }
  disks: TaskDisks | null
}): Promise<{ strategy: Strategy; why: string }> {
  const { config, engine, owner, probed, disks } = parts
  const wanted = config.strategy === 'late_overlay'
  if (!wanted && (config.strategy !== 'auto' || probed.strategy !== 'overlay_volume')) return probed
  const image = config.catalog.get(DEFAULT_IMAGE)?.image ?? ''
  const why = disks
    ? await probeLate(engine, disks, { image, owner, dataDir: config.dataDir })
    : 'tasks have no disks of their own'
  if (why === null)
    return {
      strategy: 'late_overlay',
      why: 'a container that ran wrote through an overlay that was mounted for it',
    }
  if (wanted) throw new Error(`AGIRUNNER_STRATEGY=late_overlay does not work here: ${why}`)
  return { ...probed, why: `${probed.why}; no late_overlay: ${why}` }
}

/** The bucket that the operator chose, looked at and swept as long as the worker lives; null for the disk. */
async function openBucket(
  { config, owner, records, log }: { config: Config; owner: Owner; records: TaskRecords; log: Log },
  release: ReleaseStack,
): Promise<{ store: ObjectStore; storage: BucketStorage } | null> {
  if (config.storage === null) return null
  const store = new ObjectStore(config.storage)
  release.defer('bucket', () => store.close())
  const storage = new BucketStorage(store)
  await storage.check(owner.worker)
  every(SWEEP_MS, release, log, async () => {
    await storage.check(owner.worker)
    await sweepBucket({ store, records, log }, Date.now())
  })
  return { store, storage }
}

/** Disks of their own for tasks, where the worker can mount them and the engine sees them. */
async function openDisks(
  parts: { config: Config; engine: ContainerEngine; owner: Owner; strategy: Strategy },
  release: ReleaseStack,
): Promise<{ disks: TaskDisks | null; capability: Capability }> {
  const { config, engine, owner, strategy } = parts
  const opened = await tryDisks()
  if (typeof opened !== 'string') {
    release.defer('disks', () => opened.close())
    return {
      disks: opened,
      capability: diskQuota('enforced', 'each task has a file system of its own', null),
    }
  }
  const fix = 'run the worker as root beside the engine, with e2fsprogs and mount installed'
  return { disks: null, capability: diskQuota('weaker', `what tasks write is only watched: ${opened}`, fix) }

  async function tryDisks(): Promise<TaskDisks | string> {
    if (config.diskQuota === 'off') return 'switched off by AGIRUNNER_DISK_QUOTA'
    if (strategy === 'archive') return 'the engine shares no files with the worker'
    if (process.getuid?.() !== 0) return 'the worker is not root'
    const made = await TaskDisks.open(config.dataDir, owner.worker).catch(messageOf)
    if (typeof made === 'string') return made
    const image = config.catalog.get(DEFAULT_IMAGE)?.image ?? ''
    const why = await probeDisks(engine, strategy, made, { image, owner, dataDir: config.dataDir })
    if (why === null) return made
    await made.close()
    return why
  }
}

function diskQuota(state: Capability['state'], detail: string, fix: string | null): Capability {
  return { name: 'disk quota', state, detail, fix }
}

async function startNetworks(
  parts: { engine: ContainerEngine; owner: Owner; config: Config; log: Log },
  release: ReleaseStack,
): Promise<Networks> {
  const { engine, owner, config, log } = parts
  const own = [config.redisUrl, config.engine.host ?? ''].flatMap(url => addressIn(url) ?? [])
  const { networks: modes, egressPrivate: opened } = config
  const networks = await Networks.start({ engine, owner, log, modes, opened, own })
  release.defer('networks', () => networks.close())
  every(NETWORKS_MS, release, log, () => networks.round())
  return networks
}

/** Where a URL leads by TCP; null for sockets and the like. */
function addressIn(url: string): { host: string; port: number } | null {
  const { protocol, hostname, port } = URL.canParse(url) ? new URL(url) : new URL('none:')
  const usual = { 'redis:': 6379, 'rediss:': 6379, 'tcp:': 2375, 'http:': 2375, 'https:': 2376 }[protocol]
  return usual === undefined || hostname === '' ? null : { host: hostname, port: Number(port) || usual }
}

function httpOf(url: string | null): Pick<WorkerRecord, 'http'> {
  return url === null ? {} : { http: url }
}

/** A connection that is away would keep the question until it is back. */
async function ping(redis: Redis): Promise<void> {
  if (redis.status !== 'ready') throw new Error(`there is no connection; it is ${redis.status}`)
  await redis.ping()
}

/** Two queues, or two Redis servers, may share an engine: the random id in Redis keeps what they make apart. */
async function stackOf(redis: Redis, names: RedisNames): Promise<string> {
  await redis.set(names.stack, randomUUID(), 'NX')
  return (await redis.get(names.stack)) ?? ''
}

function workerRecord(
  config: Config,
  owner: Owner,
  info: EngineInfo,
  workspaces: { readonly strategy: string; readonly room: Workspaces },
  status: { running: ReadonlySet<string>; draining: boolean },
): WorkerRecord {
  return {
    id: owner.worker,
    host: owner.host,
    pid: process.pid,
    startedAt: STARTED_AT,
    at: new Date().toISOString(),
    state: status.draining ? 'draining' : status.running.size > 0 ? 'executing' : 'idle',
    concurrency: config.concurrency,
    running: [...status.running],
    strategy: workspaces.strategy,
    cache: workspaces.room.cacheStatus(),
    engine: `${info.name}, ${info.version}`,
    hostRoots: config.hostRoots.map(root => root.path),
  }
}

const STARTED_AT = new Date().toISOString()

/** Repeats `work` with a pause between the end of one round and the next, until released. */
function every(ms: number, release: ReleaseStack, log: Log, work: () => Promise<unknown>): void {
  const stop = new AbortController()
  const loop = (async () => {
    for (;;) {
      await sleep(ms, stop.signal)
      await work().catch(error => log.warn('periodic work failed', { reason: messageOf(error) }))
    }
  })().catch(() => undefined)
  release.defer('periodic work', async () => {
    stop.abort()
    await loop
  })
}

function startConsuming(
  config: Config,
  redis: Redis,
  options: ConsumeOptions,
  status: { running: Set<string> },
  log: Log,
): Worker<TaskJobData> {
  const worker = new Worker<TaskJobData>(
    config.queue,
    async (job, token) => {
      const taskId = job.id ?? ''
      status.running.add(taskId)
      try {
        return await processJob(job, token, options)
      } finally {
        status.running.delete(taskId)
      }
    },
    { connection: redis.duplicate(), prefix: REDIS_PREFIX, concurrency: config.concurrency, ...BULLMQ },
  )
  worker.on('error', error => log.debug('bullmq', { reason: messageOf(error) }))
  return worker
}

/** A failed task is a failed job and a succeeded one a completed job; the structured result is beside both. */
async function processJob(
  job: Job<TaskJobData>,
  token: string | undefined,
  options: ConsumeOptions,
): Promise<string> {
  const consumed = await consume(job.id ?? '', job.data, options)
  switch (consumed.type) {
    case 'ended':
      if (consumed.status === 'succeeded') return consumed.status
      throw new UnrecoverableError(consumed.message)
    case 'elsewhere':
      return await outcomeElsewhere(job, options)
    case 'requeue':
      await job.moveToWait(token)
      throw new WaitingError()
    case 'newer':
      options.log.warn('a task of a newer version stays in the queue', { taskId: job.id })
      await job.moveToDelayed(Date.now() + NEWER_MS, token)
      throw new DelayedError()
  }
}

/** The task's result was written by somebody else: the job ends as that says. */
async function outcomeElsewhere(job: Job<TaskJobData>, { records }: ConsumeOptions): Promise<string> {
  const result = await records.result(job.id ?? '')
  if (result === null || result.status === 'succeeded') return 'succeeded'
  throw new UnrecoverableError(`${result.failure?.code ?? result.status}: ${result.failure?.message ?? ''}`)
}
