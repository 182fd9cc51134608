import { bareContainer } from './bare.js'
import { cloneAndRun } from './clone-and-run.js'
import { type Absent, type Contender, isAbsent, tryOut } from './contender.js'
import { gitlabCiLocal } from './gitlab-ci-local.js'
import { measure } from './measure.js'
import { podmanRun } from './podman.js'
import { type RuntimeOptions, runtime } from './runtime.js'
import { type Samples, summarize } from './statistics.js'
import type { Found, Plan, Stage } from './suite.js'
import { renderTable } from './table.js'
import type { Target } from './target.js'
import { testcontainers } from './testcontainers.js'

/** From the enqueueing to the first byte and to the result: the runtime's ways, the peers, the floor. */
export async function benchStart(stage: Stage, { rounds }: Plan): Promise<Found> {
  const { producer } = await stage.shared()
  const parking = await stage.start({ AGIRUNNER_PARK: '4' })
  const options = { image: stage.image, producer }
  const known = () => stage.repository('known')
  const byRef = async () => ({ url: (await known()).url })
  const bare = bareContainer(stage.docker, stage.image)
  const all: (Contender | Absent)[] = [
    runtime({ ...options, name: 'runtime, cold', sourceOf: unknownOf(stage) }),
    runtime({ ...options, name: 'runtime, warm', sourceOf: byRef }),
    runtime({
      ...options,
      name: 'runtime, parked',
      producer: parking.producer,
      sourceOf: known,
      parks: true,
    }),
    ...(await peers(stage)),
    bare,
  ]
  const contenders = all.filter((one): one is Contender => !isAbsent(one))
  const onRound = (round: number) => stage.say(`start: round ${round} of ${rounds.most}`)
  const samples = await measure({ contenders, rounds, onRound })
  await parking.stop()
  const report = summarize(samples)
  const absent = all.filter(isAbsent)
  const missing = absent.map(({ name, reason }) => `\nNot run: ${name} (${reason}).`)
  const targets = targetsOfStart(report)
  const text = `${renderTable(report, ['git clone + docker run', bare.name])}\n${missing.join('')}${parkedIn(samples)}`
  return { samples: { report, absent }, text, targets }
}

/** A repository that the worker has never seen, each time. */
function unknownOf(stage: Stage): RuntimeOptions['sourceOf'] {
  return async round => ({ url: (await stage.repository(`unknown-${round}`)).url })
}

async function peers(stage: Stage): Promise<(Contender | Absent)[]> {
  const { image, dockerHost, folder } = stage
  const urlOf = async (round: number) => (await stage.repository(`peer-${round}`)).url
  const all = [
    cloneAndRun({ program: 'docker', image, dockerHost, folder, urlOf }),
    await podmanRun({ image, dockerHost, folder, urlOf }),
    await gitlabCiLocal({ image, dockerHost, folder, url: async () => await urlOf(0) }),
    await testcontainers(image, dockerHost),
  ]
  const tried: (Contender | Absent)[] = []
  for (const peer of all) tried.push(await tryOut(peer))
  return tried
}

function targetsOfStart(report: ReturnType<typeof summarize>): Target[] {
  const warm = report['runtime, warm']
  const [ratio, end] = [warm?.ratios['bare container']?.startMs, warm?.metrics.endMs.median]
  return [
    { what: 'cold start: create + start ÷ bare', atMost: 1.15, unit: '×', measured: ratio ?? Number.NaN },
    { what: 'exit to result, median', atMost: 40, unit: 'ms', measured: end ?? Number.NaN },
  ]
}

/** The ratio of a parked container is none where the task had to make its own. */
function parkedIn(samples: Samples): string {
  const lines = Object.entries(samples).flatMap(([name, own]) => {
    const hits = own.filter(({ parked }) => parked).length
    return hits > 0 ? [`\n${name}: ${hits} of ${own.length} tasks got a container that waited.`] : []
  })
  return lines.join('')
}

/** Tasks for which a container waits, often enough to tell their 99th percentile. */
export async function benchParked(stage: Stage, { rounds }: Plan): Promise<Found> {
  const { producer, stop } = await stage.start({ AGIRUNNER_PARK: '4' })
  const known = () => stage.repository('known')
  const options = { image: stage.image, producer, parks: true }
  const bare = bareContainer(stage.docker, stage.image)
  const contenders = [
    runtime({ ...options, name: 'parked, by commit', sourceOf: known }),
    runtime({ ...options, name: 'parked, by ref', sourceOf: async () => ({ url: (await known()).url }) }),
    bare,
  ]
  const samples = await measure({ contenders, rounds })
  await stop()
  const report = summarize(samples)
  const first = report['parked, by commit']?.metrics.firstByteMs
  const what = 'parked: enqueue to first output'
  const targets = [
    { what: `${what}, p50`, atMost: 10, unit: 'ms', measured: first?.median ?? Number.NaN },
    { what: `${what}, p99`, atMost: 25, unit: 'ms', measured: first?.p99 ?? Number.NaN },
  ]
  return { samples: report, text: `${renderTable(report, [bare.name])}\n${parkedIn(samples)}`, targets }
}
