import type { Producer } from '@agirunner/producer'
import type Docker from 'dockerode'
import {
  type LogReader,
  readsByAttach,
  readsByDockerLogs,
  readsByRuntime,
  readsByStoringAttach,
} from './log-readers.js'
import { quantile } from './statistics.js'
import { align } from './table.js'

export interface LogBenchOptions {
  readonly producer: Producer
  readonly docker: Docker
  readonly dockerHost: string
  readonly image: string
  readonly redisUrl: string
  /** For files of the contenders. */
  readonly folder: string
  readonly runs: number
  /** How much is printed and read. */
  readonly outputMiB: number
  readonly say: (line: string) => void
}

/** What one reader did in one round. */
export interface LogSample {
  /** Of the same output, from its first byte at the reader to its last; in MiB a second. */
  readonly readMiBps: number
  /** From its first byte until all of it was stored for good, where the reader stores it; in MiB a second. */
  readonly storedMiBps: number | null
  /** Until a neighbour's first output came, in milliseconds: with nobody else there, and beside a flood that is read. */
  readonly neighbourMs: number
  readonly neighbourInFloodMs: number
}

export type LogReport = Readonly<Record<string, readonly LogSample[]>>

/** Sixty-four bytes a line: what a build prints, more or less. */
const LINE = 'a line of sixty-three characters and one that ends it, as builds'.slice(0, 63)
/** As fast as it is for everybody, so that one that takes more of it has no more to do: some 15 MB a second. */
const FLOOD = `exec perl -e '$| = 1; $b = ("${LINE}\\n" x 256); while (1) { print $b; select undef, undef, undef, 0.001 }'`
const FLOOD_SECONDS = 30

/** Reads the same output by the runtime, by the engine's log and by attaching, in rounds, each time another one first. */
export async function measureLogs(options: LogBenchOptions): Promise<LogReport> {
  const { producer, docker, dockerHost, image, redisUrl, folder, runs, outputMiB, say } = options
  const readers = [
    readsByRuntime(producer, image),
    readsByStoringAttach({ dockerHost, image, redisUrl }, folder),
    readsByDockerLogs(docker, dockerHost, image),
    readsByAttach(docker, image),
  ]
  const samples: Record<string, LogSample[]> = Object.fromEntries(readers.map(({ name }) => [name, []]))
  for (let round = 0; round <= runs; round += 1) {
    const first = round % readers.length
    for (const reader of [...readers.slice(first), ...readers.slice(0, first)]) {
      const sample = await measureReader(reader, outputMiB * 2 ** 20)
      // The first round warms up.
      if (round > 0) samples[reader.name]?.push(sample)
    }
    say(`logs: round ${round} of ${runs}`)
  }
  return samples
}

async function measureReader(reader: LogReader, bytes: number): Promise<LogSample> {
  const neighbourMs = await firstOutputMs(reader)
  const speed = await readOutput(reader, bytes)
  const flood = await reader.start(FLOOD, FLOOD_SECONDS)
  try {
    await flood.first
    return { ...speed, neighbourMs, neighbourInFloodMs: await firstOutputMs(reader) }
  } finally {
    await flood.end()
  }
}

async function readOutput(
  reader: LogReader,
  size: number,
): Promise<Pick<LogSample, 'readMiBps' | 'storedMiBps'>> {
  const output = await reader.start(`yes '${LINE}' | head -c ${size}`, FLOOD_SECONDS)
  try {
    await output.first
    const since = performance.now()
    const mibps = () => size / 2 ** 20 / ((performance.now() - since) / 1000)
    const storing = output.stored?.then(mibps)
    const bytes = await output.read
    if (bytes !== size) throw new Error(`${reader.name} read ${bytes} of ${size} bytes`)
    return { readMiBps: mibps(), storedMiBps: (await storing) ?? null }
  } finally {
    await output.end()
  }
}

async function firstOutputMs(reader: LogReader): Promise<number> {
  const since = performance.now()
  const run = await reader.start('echo first', FLOOD_SECONDS)
  await run.first
  const took = performance.now() - since
  await run.end()
  return took
}

/** Shows a report to a person, as medians. */
export function renderLogs(report: LogReport): string {
  const median = (values: readonly (number | null)[], unit: string, digits: number) => {
    const known = values.filter(value => value !== null)
    return known.length === 0 ? '-' : `${quantile(known, 0.5).toFixed(digits)} ${unit}`
  }
  const own = report.runtime ?? []
  const rows = Object.entries(report).map(([name, samples]) => [
    name,
    median(
      samples.map(sample => sample.readMiBps),
      'MiB/s',
      1,
    ),
    median(
      samples.map((sample, round) => (own[round]?.readMiBps ?? Number.NaN) / sample.readMiBps),
      'x',
      2,
    ),
    median(
      samples.map(sample => sample.storedMiBps),
      'MiB/s',
      1,
    ),
    median(
      samples.map(sample => sample.neighbourMs),
      'ms',
      0,
    ),
    median(
      samples.map(sample => sample.neighbourInFloodMs),
      'ms',
      0,
    ),
    median(
      samples.map(sample => sample.neighbourInFloodMs / sample.neighbourMs),
      'x',
      2,
    ),
  ])
  return align([
    ['logs', 'to a reader', 'runtime ÷ it', 'stored', 'neighbour', 'in a flood', 'slower by'],
    ...rows,
  ])
}
