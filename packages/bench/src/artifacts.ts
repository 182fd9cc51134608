import { execFile } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Producer } from '@agirunner/producer'
import type { TestS3 } from '@agirunner/test-kit'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { stopwatch } from './contender.js'
import { quantile } from './statistics.js'
import { align } from './table.js'

const run = promisify(execFile)

/** What a task leaves: so many files of so many bytes of noise. */
interface Tree {
  readonly name: string
  readonly files: number
  readonly bytes: number
}

const KIB = 1024
const MIB = 1024 * KIB
const ON_DISK: readonly Tree[] = [
  { name: '1 × 256 MiB', files: 1, bytes: 256 * MIB },
  { name: '2,000 × 16 KiB', files: 2000, bytes: 16 * KIB },
]
/** Smaller, because the server that it goes to is one process of Python: the ratio is what counts. */
const IN_BUCKET: readonly Tree[] = [
  { name: '1 × 64 MiB', files: 1, bytes: 64 * MIB },
  { name: '100 × 16 KiB', files: 100, bytes: 16 * KIB },
]

/** Milliseconds; what each is called is what it is. */
export interface ArtifactSample {
  /** The floor: `cp -a` of the same tree; or the AWS SDK alone with its defaults, from the files to the bucket. */
  readonly floor: number
  /** The peer, where there is one: `sha256sum` and then `cp -a`, which is what the runtime does. */
  readonly peer: number | null
  /** `timings.captureMs`: everything looked at, summed, searched, copied; with a bucket, stored there as well. */
  readonly kept: number
  /** The first file read by the floor's program, and by `producer.artifact`, which compares its sum. */
  readonly floorRead: number
  readonly read: number
}

export interface ArtifactReport {
  readonly where: 'disk' | 'bucket'
  readonly tree: string
  readonly samples: readonly ArtifactSample[]
}

export interface ArtifactOptions {
  readonly image: string
  /** Where trees are made and copied: on the disk of the workers' data. */
  readonly folder: string
  /** Of a worker that keeps on its disk, and of one that stores in the bucket. */
  readonly producers: { readonly disk: Producer; readonly bucket: Producer }
  readonly s3: TestS3
  readonly runs: number
  readonly say: (line: string) => void
}

/** Measures keeping what a task leaves, and reading it, beside the system's own programs and the SDK alone. */
export async function measureArtifacts(options: ArtifactOptions): Promise<ArtifactReport[]> {
  const folder = await mkdtemp(join(options.folder, 'artifacts-'))
  const bare = bareSdk(options.s3)
  const reports: ArtifactReport[] = []
  try {
    for (const where of ['disk', 'bucket'] as const) {
      for (const tree of where === 'disk' ? ON_DISK : IN_BUCKET) {
        const samples: ArtifactSample[] = []
        const source = await makeTree(folder, tree)
        for (let round = 0; round <= options.runs; round += 1) {
          const sides = where === 'disk' ? await bySystem(source) : await bare.both(source)
          const sample = { ...sides, ...(await byRuntime(options, where, tree, round)) }
          // The first round warms up.
          if (round > 0) samples.push(sample)
        }
        await rm(source, { recursive: true })
        options.say(`artifacts: ${tree.name} to the ${where}`)
        reports.push({ where, tree: tree.name, samples })
      }
    }
  } finally {
    bare.close()
    await rm(folder, { recursive: true, force: true })
  }
  return reports
}

/** The same script makes the tree for everybody. */
const scriptOf = ({ files, bytes }: Tree) =>
  `head -c ${files * bytes} /dev/urandom | split -d -a 4 -b ${bytes} - file-`
/** The name of the first file. */
const FIRST = 'file-0000'

async function makeTree(folder: string, tree: Tree): Promise<string> {
  const source = join(folder, 'source')
  await mkdir(source)
  await run('sh', ['-ec', scriptOf(tree)], { cwd: source })
  return source
}

type Sides = Pick<ArtifactSample, 'floor' | 'peer' | 'floorRead'>

async function bySystem(source: string): Promise<Sides> {
  const timed = async (script: string) => {
    const elapsed = stopwatch()
    await run('sh', ['-ec', script], { cwd: source, maxBuffer: 16 * MIB })
    const took = elapsed()
    await rm(`${source}-copy`, { recursive: true, force: true })
    return took
  }
  return {
    floor: await timed('cp -a . ../source-copy'),
    peer: await timed('find . -type f -exec sha256sum {} + && cp -a . ../source-copy'),
    floorRead: await timed(`cp ${FIRST} ../source-copy`),
  }
}

function bareSdk(s3: TestS3): { both(source: string): Promise<Sides>; close(): void } {
  const { endpoint, accessKeyId, secretAccessKey, bucket: Bucket } = s3
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
  const upload = async (source: string, name: string) => {
    const params = { Bucket, Key: `bare/${name}`, Body: createReadStream(join(source, name)) }
    await new Upload({ client, params }).done()
  }
  const both = async (source: string) => {
    const names = await readdir(source)
    const elapsed = stopwatch()
    const some = async () => {
      for (let name = names.pop(); name; name = names.pop()) await upload(source, name)
    }
    await Promise.all(Array.from({ length: 8 }, some))
    const floor = elapsed()
    const reading = stopwatch()
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: `bare/${FIRST}` }))
    await drained(Body as AsyncIterable<Buffer>)
    return { floor, peer: null, floorRead: reading() }
  }
  return { both, close: () => client.destroy() }
}

async function byRuntime(
  { producers, image }: ArtifactOptions,
  where: 'disk' | 'bucket',
  tree: Tree,
  round: number,
): Promise<Pick<ArtifactSample, 'kept' | 'read'>> {
  const producer = producers[where]
  const taskId = `artifacts-${where}-${tree.files}-${round}`
  await producer.enqueue({
    taskId,
    environment: { image },
    run: { script: `cd ../output; ${scriptOf(tree)}` },
    limits: { outputBytes: '1Gi' },
    capture: { changes: 'none', retention: 'ephemeral' },
  })
  const { status, failure, artifacts, timings } = await producer.waitForResult(taskId)
  if (status !== 'succeeded' || artifacts.length !== tree.files)
    throw new Error(`${taskId} ended as ${status}: ${failure?.message ?? 'without its artifacts'}`)
  const reading = stopwatch()
  await drained(producer.artifact(taskId, artifacts[0]?.path ?? ''))
  return { kept: timings.captureMs ?? Number.NaN, read: reading() }
}

async function drained(bytes: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of bytes);
}

/** The medians; one line for each tree. */
export function renderArtifacts(reports: readonly ArtifactReport[]): string {
  const part = (where: ArtifactReport['where'], floor: string, peer: string, read: string) => [
    [`to the ${where}`, floor, peer, 'kept', `÷ ${floor}`, `÷ ${peer}`, read, 'read', `÷ ${read}`],
    ...reports.filter(report => report.where === where).map(({ tree, samples }) => [tree, ...cells(samples)]),
  ]
  return [part('disk', 'cp', 'sum + cp', 'cp of one'), part('bucket', 'SDK', '–', 'SDK get')]
    .map(align)
    .join('\n\n')
}

function cells(samples: readonly ArtifactSample[]): string[] {
  const median = (of: (sample: ArtifactSample) => number | null) =>
    quantile(
      samples.map(of).filter(value => value !== null),
      0.5,
    )
  const ms = (value: number) => (Number.isNaN(value) ? '–' : `${value.toFixed(0)} ms`)
  const times = (value: number) => (Number.isNaN(value) ? '–' : value.toFixed(2))
  return [
    ms(median(one => one.floor)),
    ms(median(one => one.peer)),
    ms(median(one => one.kept)),
    times(median(one => one.kept / one.floor)),
    times(median(one => one.peer && one.kept / one.peer)),
    ms(median(one => one.floorRead)),
    ms(median(one => one.read)),
    times(median(one => one.read / one.floorRead)),
  ]
}
