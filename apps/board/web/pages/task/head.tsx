import type { TargetedEvent } from 'preact'
import { useRef, useState } from 'preact/hooks'
import type { TaskView } from '../../../src/api.js'
import { ask, askJson, complaintOf } from '../../app/api.js'
import { useNow } from '../../app/hooks.js'
import { go } from '../../app/router.js'
import { age, duration, words } from '../../lib/format.js'
import { Complaint } from '../../parts/page-state.js'
import { Status } from '../../parts/status.js'

interface TaskHeadProps {
  readonly task: TaskView
  readonly mayChange: boolean
  readonly onChange: () => void
}

export function TaskHead({ task, mayChange, onChange }: TaskHeadProps) {
  const { taskId, result } = task
  const [complaint, setComplaint] = useState<string | null>(null)
  const status = result?.status ?? task.state
  const again = () => {
    askJson<{ taskId: string }>(`tasks/${encodeURIComponent(taskId)}/again`, { body: {} })
      .then(answer => go(`tasks/${encodeURIComponent(answer.taskId)}`))
      .catch((error: unknown) => setComplaint(complaintOf(error)))
  }
  return (
    <header class="task-head">
      <p class="crumbs">
        <a href="tasks">Tasks</a> / <span>{task.tenantId}</span>
      </p>
      <div class="head">
        <h1 class="mono">{taskId}</h1>
        <span role="status">
          <Status name={status} big />
        </span>
        <div class="filters">
          <a class="button" href={task.job}>
            Job in the queue
          </a>
          <Cancel task={task} mayChange={mayChange} onChange={onChange} onComplaint={setComplaint} />
          <button
            type="button"
            disabled={!mayChange}
            title={mayChange ? undefined : ONLY_LOOK}
            onClick={again}
          >
            Enqueue again
          </button>
        </div>
      </div>
      <Summary task={task} />
      <Complaint text={complaint} />
      <Failure task={task} />
    </header>
  )
}

const ONLY_LOOK = 'Viewers may only look'

function Summary({ task: { result, createdAt, priority, cancel } }: { task: TaskView }) {
  const now = useNow()
  const wallMs = result?.usage.wallMs ?? null
  return (
    <p class="muted summary">
      <span>Enqueued {age(createdAt, now)} ago</span>
      <span>priority {priority}</span>
      {wallMs !== null && <span>took {duration(wallMs)}</span>}
      {result?.exit && <span>{exitText(result.exit)}</span>}
      {cancel !== null && <span>asked to cancel: {cancel || 'no reason given'}</span>}
    </p>
  )
}

function exitText({
  code,
  signal,
  oomKilled,
  cause,
}: NonNullable<NonNullable<TaskView['result']>['exit']>): string {
  const how = cause === 'exited' ? [] : [words(cause)]
  if (code !== null) how.push(`exit code ${code}`)
  if (signal !== null) how.push(signal)
  if (oomKilled) how.push('killed for lack of memory')
  return how.join(', ') || 'no exit code'
}

function Failure({ task }: { task: TaskView }) {
  const failure = task.result?.failure
  if (!failure) return null
  return (
    <section class="failure" aria-labelledby="failure">
      <h2 id="failure">
        <code>{failure.code}</code>
        <small>
          in {failure.phase} · {failure.origin}
          {failure.retryable ? ' · can be tried again' : ''}
        </small>
      </h2>
      <p class="pre">{failure.message}</p>
      <p>
        <b>What to do:</b> {failure.hint}
      </p>
    </section>
  )
}

interface CancelProps extends TaskHeadProps {
  readonly onComplaint: (complaint: string | null) => void
}

function Cancel({ task, mayChange, onChange, onComplaint }: CancelProps) {
  const dialog = useRef<HTMLDialogElement>(null)
  const submit = (event: TargetedEvent<HTMLFormElement>) => {
    event.preventDefault()
    const reason = new FormData(event.currentTarget).get('reason')
    dialog.current?.close()
    ask(`tasks/${encodeURIComponent(task.taskId)}/cancel`, { body: { reason } })
      .then(onChange)
      .catch((error: unknown) => onComplaint(complaintOf(error)))
  }
  const isOver = task.state === 'finished' || task.cancel !== null
  return (
    <>
      <button
        type="button"
        class="danger"
        disabled={!mayChange || isOver}
        title={mayChange ? undefined : ONLY_LOOK}
        onClick={() => dialog.current?.showModal()}
      >
        {task.cancel !== null && task.state !== 'finished' ? 'Canceling…' : 'Cancel'}
      </button>
      <dialog ref={dialog} aria-labelledby="cancel-title">
        <form onSubmit={submit}>
          <h2 id="cancel-title">Cancel {task.taskId}?</h2>
          <p>Its container is stopped. What it wrote until then is captured.</p>
          <label>
            Reason
            <input name="reason" maxLength={200} placeholder="Why it is canceled" />
          </label>
          <div class="actions">
            <button type="button" onClick={() => dialog.current?.close()}>
              Keep it
            </button>
            <button type="submit" class="danger">
              Cancel the task
            </button>
          </div>
        </form>
      </dialog>
    </>
  )
}
