import type { ComponentChild } from 'preact'
import type { TaskView } from '../../../src/api.js'
import { labelsInOrder } from '../../lib/fleet.js'
import { bytes, cores, count, duration, shortDigest, words } from '../../lib/format.js'
import { memo } from '../../parts/memo.js'

export const Attempts = memo(({ task: { attempts } }: { task: TaskView }) => {
  if (attempts.length === 0) return null
  return (
    <section class="card" aria-labelledby="attempts">
      <h2 id="attempts">Attempts</h2>
      <ol class="attempts">
        {attempts.map(({ attempt, worker, startedAt, finishedAt, failure }) => (
          <li key={attempt}>
            <b>{attempt}</b>
            <div>
              {failure ? <code>{failure.code}</code> : finishedAt === null ? 'running' : 'ended well'}{' '}
              <span class="muted">
                {finishedAt !== null && duration(Date.parse(finishedAt) - Date.parse(startedAt))}
              </span>
              <small class="mono">{worker}</small>
              {failure && <small>{failure.message}</small>}
            </div>
          </li>
        ))}
      </ol>
    </section>
  )
})

export const Facts = memo(({ task }: { task: TaskView }) => {
  const { result } = task
  return (
    <>
      {result && <Usage result={result} spec={task.spec} />}
      {result && <Timings timings={result.timings} />}
      {result && result.steps.length > 0 && <Steps steps={result.steps} />}
      {result?.container && <Container container={result.container} worker={result.worker} />}
      {result?.base && <Base base={result.base} />}
      {result && result.egressDenied.length > 0 && <Egress refused={result.egressDenied} />}
      <Labels labels={labelsOf(task)} />
    </>
  )
})

function Panel({ id, title, children }: { id: string; title: string; children: ComponentChild }) {
  return (
    <section class="card" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  )
}

interface Fact {
  readonly name: string
  readonly value: ComponentChild
}

function List({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl class="facts">
      {facts.map(({ name, value }) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

type Result = NonNullable<TaskView['result']>

function Usage({ result, spec }: { result: Result; spec: unknown }) {
  const { usage } = result
  const limit = (name: string) => textAt(spec, ['environment', 'resources', name])
  const of = (used: string, name: string) => (limit(name) === null ? used : `${used} / ${limit(name)}`)
  const meanCpu = usage.cpuMs !== null && usage.wallMs ? usage.cpuMs / usage.wallMs : null
  return (
    <Panel id="usage" title="Usage">
      <List
        facts={[
          { name: 'Wall time', value: duration(usage.wallMs) },
          { name: 'CPU time', value: duration(usage.cpuMs) },
          { name: 'Mean cores', value: of(cores(meanCpu), 'cpu') },
          { name: 'Memory peak', value: of(bytes(usage.memoryPeakBytes), 'memory') },
          { name: 'Pids peak', value: of(count(usage.pidsPeak), 'pids') },
          { name: 'Disk', value: of(bytes(usage.diskBytes), 'disk') },
          { name: 'Received', value: bytes(usage.networkRxBytes) },
          { name: 'Sent', value: bytes(usage.networkTxBytes) },
        ]}
      />
    </Panel>
  )
}

/** What stands at a path of the task as it was sent; null where nothing does. */
function textAt(value: unknown, [name, ...rest]: readonly string[]): string | null {
  if (name === undefined) return typeof value === 'string' || typeof value === 'number' ? String(value) : null
  if (typeof value !== 'object' || value === null) return null
  return textAt(Object.getOwnPropertyDescriptor(value, name)?.value, rest)
}

function Timings({ timings }: { timings: Result['timings'] }) {
  const facts = Object.entries(timings).map(([name, ms]) => ({
    name: name.replace(/Ms$/, ''),
    value: duration(ms),
  }))
  return (
    <Panel id="timings" title="Timings">
      <List facts={facts} />
    </Panel>
  )
}

function Steps({ steps }: { steps: Result['steps'] }) {
  return (
    <Panel id="steps" title="Steps">
      <List
        facts={steps.map(({ name, exitCode, durationMs }) => ({
          name,
          value: exitCode === null ? 'not run' : `exit ${exitCode}, ${duration(durationMs)}`,
        }))}
      />
    </Panel>
  )
}

interface ContainerProps {
  readonly container: NonNullable<Result['container']>
  readonly worker: Result['worker']
}

function Container({ container, worker }: ContainerProps) {
  const { id, name, image, imageDigest, parked, strategy } = container
  const facts: Fact[] = [
    { name: 'Image', value: image },
    {
      name: 'Digest',
      value: <code title={imageDigest ?? undefined}>{shortDigest(imageDigest) ?? '–'}</code>,
    },
    { name: 'Strategy', value: words(strategy) },
    { name: 'Parked', value: parked ? 'yes, it was ready' : 'no, made for the task' },
    { name: 'Name', value: <code>{name}</code> },
    { name: 'Id', value: <code title={id}>{id.slice(0, 12)}</code> },
  ]
  if (worker)
    facts.push({ name: 'Worker', value: <code>{worker.id}</code> }, { name: 'Host', value: worker.host })
  return (
    <Panel id="container" title="Container">
      <List facts={facts} />
    </Panel>
  )
}

function Base({ base }: { base: NonNullable<Result['base']> }) {
  return (
    <Panel id="base" title="Repository">
      <List
        facts={[
          { name: 'Address', value: base.url ?? '–' },
          { name: 'Ref', value: base.ref ?? '–' },
          {
            name: 'Commit',
            value: <code title={base.commit ?? undefined}>{base.commit?.slice(0, 12) ?? '–'}</code>,
          },
        ]}
      />
    </Panel>
  )
}

function Egress({ refused }: { refused: Result['egressDenied'] }) {
  return (
    <Panel id="egress" title="Refused connections">
      <List
        facts={refused.map(({ host, port, count: times }) => ({
          name: `${host}:${port}`,
          value: `${count(times)} ${times === 1 ? 'time' : 'times'}`,
        }))}
      />
    </Panel>
  )
}

function labelsOf(task: TaskView): Readonly<Record<string, string>> {
  if (task.result) return task.result.labels
  const { spec } = task
  const labels = typeof spec === 'object' && spec !== null && 'labels' in spec ? spec.labels : null
  if (typeof labels !== 'object' || labels === null) return {}
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]))
}

function Labels({ labels }: { labels: Readonly<Record<string, string>> }) {
  const pairs = labelsInOrder(labels)
  if (pairs.length === 0) return null
  return (
    <Panel id="labels" title="Labels">
      <List facts={pairs.map(([name, value]) => ({ name, value }))} />
    </Panel>
  )
}
