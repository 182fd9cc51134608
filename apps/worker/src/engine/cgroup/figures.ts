import { type Hierarchy, readValue } from './hierarchy.js'

/** Reads a file of a group: `readValue`, or one that keeps it open. */
export type ReadValue = typeof readValue

/** What a container has used so far. Null where the kernel, or the engine, does not tell. */
export interface Figures {
  readonly cpuNs: number | null
  readonly memoryPeakBytes: number | null
  readonly pidsPeak: number | null
  /** Reads and writes of disks. */
  readonly ioOperations: number | null
  /** How many of its processes were killed for want of memory. */
  readonly oomKills: number | null
  /** Whether it tried to have more processes than it may. */
  readonly pidsExceeded: boolean | null
}

/** Of the processors since the start, of all else now. */
export type CurrentFigures = Pick<Figures, 'cpuNs'> & {
  readonly memoryBytes: number | null
  readonly pids: number | null
}

/** Where to read: `kept` outlives the container, `live` goes with it; both as a path below the roots. */
export interface GroupPlace {
  readonly kept: string
  readonly live: string | null
  /** The limit that lies above `kept`, so that its peak shows an attempt to pass it; null where it lies below. */
  readonly pidsLimit: number | null
}

/** Reads a group's figures; what is gone or unknown to this kernel is null. */
export function readFigures({ version, roots }: Hierarchy, place: GroupPlace, from: ReadValue): Figures {
  return version === 1 ? readV1(roots, place, from) : readV2(roots.memory, place, from)
}

/** Counters of events are not passed upward in version 1: they can only be read while the container is there. */
function readV1(roots: Hierarchy['roots'], { kept, live, pidsLimit }: GroupPlace, from: ReadValue): Figures {
  const read = (controller: keyof typeof roots, file: string) => from(roots[controller] + kept, file)
  const readLive = (controller: keyof typeof roots, file: string) =>
    live === null ? null : from(roots[controller] + live, file)
  const peak = toNumber(read('pids', 'pids.peak'))
  return {
    cpuNs: toNumber(read('cpu', 'cpuacct.usage')),
    memoryPeakBytes: toNumber(read('memory', 'memory.max_usage_in_bytes')),
    pidsPeak: withinLimit(peak, pidsLimit) ?? toNumber(readLive('pids', 'pids.current')),
    ioOperations: wordAfter(read('io', 'blkio.throttle.io_serviced_recursive'), 'Total'),
    oomKills: wordAfter(readLive('memory', 'memory.oom_control'), 'oom_kill'),
    pidsExceeded: exceeded(peak, pidsLimit, wordAfter(readLive('pids', 'pids.events'), 'max')),
  }
}

/** The OOM kills that go with the container, whose group `live` is; null where they stay. */
export function readOomKills(
  { version, roots: { memory } }: Hierarchy,
  live: string,
  from: ReadValue,
): number | null {
  return version === 2 ? null : wordAfter(from(memory + live, 'memory.oom_control'), 'oom_kill')
}

/** Null where OOM kills stay. */
export function readMemory(
  { version, roots: { memory } }: Hierarchy,
  kept: string,
  from: ReadValue,
): number | null {
  return version === 2 ? null : toNumber(from(memory + kept, 'memory.usage_in_bytes'))
}

/** For who looks at a container now and then. */
export function readCurrentFigures({ version, roots }: Hierarchy, kept: string): CurrentFigures {
  const read = (controller: keyof typeof roots, file: string) => readValue(roots[controller] + kept, file)
  const pids = toNumber(read('pids', 'pids.current'))
  if (version === 1) {
    const memoryBytes = toNumber(read('memory', 'memory.usage_in_bytes'))
    return { cpuNs: toNumber(read('cpu', 'cpuacct.usage')), memoryBytes, pids }
  }
  const cpuUs = wordAfter(read('cpu', 'cpu.stat'), 'usage_usec')
  const memoryBytes = toNumber(read('memory', 'memory.current'))
  return { cpuNs: cpuUs === null ? null : cpuUs * 1000, memoryBytes, pids }
}

function readV2(root: string, { kept, pidsLimit }: GroupPlace, from: ReadValue): Figures {
  const read = (file: string) => from(root + kept, file)
  const peak = toNumber(read('pids.peak'))
  const cpuUs = wordAfter(read('cpu.stat'), 'usage_usec')
  return {
    cpuNs: cpuUs === null ? null : cpuUs * 1000,
    memoryPeakBytes: toNumber(read('memory.peak')) ?? toNumber(read('memory.current')),
    pidsPeak: withinLimit(peak, pidsLimit) ?? toNumber(read('pids.current')),
    ioOperations: sumOfIo(read('io.stat')),
    oomKills: wordAfter(read('memory.events'), 'oom_kill'),
    pidsExceeded: exceeded(peak, pidsLimit, wordAfter(read('pids.events'), 'max')),
  }
}

/** A peak above the limit counts the one process that was not let in. */
function withinLimit(peak: number | null, limit: number | null): number | null {
  return peak === null || limit === null ? peak : Math.min(peak, limit)
}

function exceeded(peak: number | null, limit: number | null, events: number | null): boolean | null {
  if (peak !== null && limit !== null) return peak > limit || (events ?? 0) > 0
  return events === null ? null : events > 0
}

function toNumber(text: string | null): number | null {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null
}

/** The number in the line `<word> <number>`. */
function wordAfter(text: string | null, word: string): number | null {
  const line = text?.split('\n').find(one => one.startsWith(`${word} `))
  return line === undefined ? null : toNumber(line.slice(word.length + 1))
}

/** `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, a line for each disk. An empty file is no disk used. */
function sumOfIo(text: string | null): number | null {
  if (text === null) return null
  return [...text.matchAll(/\b[rw]ios=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** Figures of the same container at two times: counters only grow, and what was seen once stays true. */
export function mergeFigures(before: Figures, now: Figures): Figures {
  const most = (key: Exclude<keyof Figures, 'pidsExceeded'>) => {
    const [a, b] = [before[key], now[key]]
    return a === null ? b : Math.max(a, b ?? 0)
  }
  return {
    cpuNs: most('cpuNs'),
    memoryPeakBytes: most('memoryPeakBytes'),
    pidsPeak: most('pidsPeak'),
    ioOperations: most('ioOperations'),
    oomKills: most('oomKills'),
    pidsExceeded: before.pidsExceeded === true ? true : (now.pidsExceeded ?? before.pidsExceeded),
  }
}

export const NO_FIGURES: Figures = {
  cpuNs: null,
  memoryPeakBytes: null,
  pidsPeak: null,
  ioOperations: null,
  oomKills: null,
  pidsExceeded: null,
}
