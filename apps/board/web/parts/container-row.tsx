import type { Gauge, LiveContainer } from '@agirunner/contracts'
import { Component, createRef } from 'preact'
import { plainText } from '../lib/ansi.js'
import { labelsInOrder, labelText } from '../lib/fleet.js'
import { bytes, cores, count, shortDigest } from '../lib/format.js'
import { differs, memo } from './memo.js'
import { Sparkline } from './sparkline.js'
import { Status } from './status.js'

export interface ContainerRowProps {
  readonly container: LiveContainer
  readonly cpu: readonly number[]
  readonly memory: readonly number[]
  /** Whether it is no more. */
  readonly gone: boolean
  /** How long ago it started, and said something. */
  readonly started: string
  readonly said: string
  /** Whether it is among the first, which are on the screen at once. */
  readonly early: boolean
}

/** Rows that nobody sees wait with drawing until they are, and have only what names them until then: of 500 some 20 are seen. */
const seen = new WeakMap<Element, ContainerRow>()
const watcher = new IntersectionObserver(
  changes => {
    for (const { target, isIntersecting } of changes) seen.get(target)?.appear(isIntersecting)
  },
  { rootMargin: '400px', scrollMargin: '400px' },
)

export class ContainerRow extends Component<ContainerRowProps> {
  readonly #row = createRef<HTMLTableRowElement>()
  #visible = this.props.early
  #whole = false
  #stale = false

  appear(visible: boolean): void {
    this.#visible = visible
    if (visible && (this.#stale || !this.#whole)) this.forceUpdate()
  }

  override componentDidMount(): void {
    const row = this.#row.current
    if (!row) return
    seen.set(row, this)
    watcher.observe(row)
  }

  override componentWillUnmount(): void {
    if (this.#row.current) watcher.unobserve(this.#row.current)
  }

  override shouldComponentUpdate(next: ContainerRowProps): boolean {
    const changed = this.#stale || differs(this.props, { ...next, early: this.props.early })
    // That it is gone shows in how the page looks as a whole, and is cheap.
    const drawn = changed && (this.#visible || next.gone !== this.props.gone)
    this.#stale = changed && !drawn
    return drawn
  }

  override render() {
    const { container, gone } = this.props
    this.#stale = false
    this.#whole ||= this.#visible
    return (
      <tr ref={this.#row} class={gone ? 'gone' : undefined} data-container={container.id}>
        <Kind kind={container.kind} name={container.name} />
        <State status={container.status} gone={gone} />
        <TaskCell taskId={container.taskId} attempt={container.attempt} />
        {this.#whole && this.#rest()}
      </tr>
    )
  }

  #rest() {
    const { container, cpu, memory, started, said } = this.props
    return (
      <>
        <Text label="Tenant" text={container.tenantId ?? '–'} />
        <Labels text={labelText(container.labels)} labels={container.labels} />
        <Image image={container.image} digest={container.imageDigest} distro={container.distro} />
        <GaugeCell
          label="CPU"
          text={gaugeText(container.cpu, cores)}
          samples={cpu}
          limit={container.cpu.limit}
        />
        <GaugeCell
          label="Memory"
          text={gaugeText(container.memory, bytes)}
          samples={memory}
          limit={container.memory.limit}
        />
        <Text label="Pids" text={gaugeText(container.pids, count)} />
        <Text label="Network" text={container.network} />
        <Text label="Started" text={started} title={container.startedAt} />
        <Output said={said} text={container.lastOutput?.text ?? null} />
        <Text label="Worker" text={container.worker} mono />
      </>
    )
  }
}

function gaugeText({ used, limit }: Gauge, format: (value: number | null) => string): string {
  return `${format(used)} / ${limit === null ? 'unlimited' : format(limit)}`
}

const Kind = memo(({ kind, name }: { kind: string; name: string }) => (
  <td data-label="Kind" title={name}>
    <span class={`tag kind-${kind}`}>{kind}</span>
  </td>
))

const State = memo(({ status, gone }: { status: string; gone: boolean }) => (
  <td data-label="Status">{gone ? <span class="status muted">gone</span> : <Status name={status} />}</td>
))

const TaskCell = memo(({ taskId, attempt }: { taskId: string | null; attempt: number | null }) => (
  <td data-label="Task" class="cut" title={taskId ?? undefined}>
    {taskId === null ? (
      '–'
    ) : (
      <>
        <a class="mono" href={`tasks/${encodeURIComponent(taskId)}`}>
          {taskId}
        </a>
        {attempt !== null && attempt > 1 && <small>attempt {attempt}</small>}
      </>
    )}
  </td>
))

interface TextProps {
  readonly label: string
  readonly text: string
  readonly title?: string | null
  readonly mono?: boolean
}

const Text = memo(({ label, text, title, mono }: TextProps) => (
  <td data-label={label} class={mono ? 'cut mono' : 'cut'} title={title ?? text}>
    {text}
  </td>
))

class Labels extends Component<{ text: string; labels: LiveContainer['labels'] }> {
  // Each look brings a new object with the same labels.
  override shouldComponentUpdate(next: { text: string }): boolean {
    return next.text !== this.props.text
  }

  override render() {
    const { text, labels } = this.props
    return (
      <td data-label="Labels" class="labels" title={text}>
        {text === '' ? (
          '–'
        ) : (
          <div>
            {labelsInOrder(labels).map(([name, value]) => (
              <span key={name}>
                <span class="muted">{name}</span> {value}
              </span>
            ))}
          </div>
        )}
      </td>
    )
  }
}

interface ImageProps {
  readonly image: string
  readonly digest: string | null
  readonly distro: string | null
}

const Image = memo(({ image, digest, distro }: ImageProps) => (
  <td
    data-label="Image"
    class="cut"
    title={`${image}\n${digest ?? 'no digest'}\n${distro ?? 'unknown distribution'}`}
  >
    {image}
    <small>
      {distro ?? 'unknown distro'} <span class="mono">{shortDigest(digest) ?? ''}</span>
    </small>
  </td>
))

interface GaugeProps {
  readonly label: string
  readonly text: string
  readonly samples: readonly number[]
  readonly limit: number | null
}

const GaugeCell = memo(({ label, text, samples, limit }: GaugeProps) => (
  <td data-label={label} class="gauge">
    <span>{text}</span>
    <Sparkline samples={samples} limit={limit} />
  </td>
))

const Output = memo(({ said, text }: { said: string; text: string | null }) => (
  <td data-label="Last output" class="cut output" title={text ?? undefined}>
    {text === null ? (
      <span class="muted">nothing yet</span>
    ) : (
      <>
        <small>{said === 'now' ? said : `${said} ago`}</small>
        <span class="mono">{plainText(text)}</span>
      </>
    )}
  </td>
))
