import type { TaskEvent } from '@agirunner/contracts'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { TaskView } from '../../src/api.js'
import { askJson, complaintOf, Refusal } from '../app/api.js'
import { useNow, useTitle } from '../app/hooks.js'
import { listen } from '../app/stream.js'
import { LogStore } from '../lib/log-store.js'
import { timelineOf } from '../lib/timeline.js'
import { LogView } from '../parts/log-view.js'
import { Complaint, Loading } from '../parts/page-state.js'
import { TimelineChart } from '../parts/timeline-chart.js'
import { Artifacts, Change, Output, Spec } from './task/content.js'
import { Attempts, Facts } from './task/facts.js'
import { TaskHead } from './task/head.js'

export function TaskPage({ taskId, mayChange }: { taskId: string; mayChange: boolean }) {
  const { task, complaint, reload } = useTask(taskId)
  const live = useTaskStream(taskId, task !== null, reload)
  useTitle(taskId)
  if (task === null)
    return complaint === null ? (
      <Loading what="the task" />
    ) : (
      <>
        <h1 class="mono">{taskId}</h1>
        <Complaint text={complaint} />
      </>
    )
  const failed = task.result?.failure != null
  return (
    <>
      <TaskHead task={task} mayChange={mayChange} onChange={reload} />
      <Complaint text={complaint} />
      <div class="split">
        <div>
          <Phases events={live.events} ended={task.result !== null} />
          <section class="card flush" aria-labelledby="log">
            <h2 id="log">Log</h2>
            <LogView store={live.log} version={live.version} live={!live.done} failed={failed} />
          </section>
          <Change task={task} />
          <Artifacts task={task} />
          <Output task={task} />
          <Spec task={task} />
        </div>
        <aside aria-label="Facts">
          <Attempts task={task} />
          <Facts task={task} />
        </aside>
      </div>
    </>
  )
}

function Phases({ events, ended }: { events: readonly TaskEvent[]; ended: boolean }) {
  const now = useNow(ended ? 60_000 : 500)
  const timeline = timelineOf(events)
  return (
    <section class="card" aria-labelledby="timeline">
      <h2 id="timeline">Timeline</h2>
      {timeline === null ? (
        <p class="nothing">{ended ? 'It ended before its first phase.' : 'It waits for a worker.'}</p>
      ) : (
        <TimelineChart timeline={timeline} now={now} />
      )}
    </section>
  )
}

function useTask(taskId: string) {
  const [task, setTask] = useState<TaskView | null>(null)
  const [complaint, setComplaint] = useState<string | null>(null)
  const reload = () => {
    askJson<TaskView>(`tasks/${encodeURIComponent(taskId)}`).then(
      view => {
        setTask(view)
        setComplaint(null)
      },
      (error: unknown) => {
        const isUnknown = error instanceof Refusal && error.status === 404
        setComplaint(
          isUnknown
            ? 'No task of this name is known. Tasks are kept until 7 days after their end.'
            : complaintOf(error),
        )
      },
    )
  }
  useEffect(reload, [taskId])
  return { task, complaint, reload }
}

/** Events after which the task's own record says something new. */
const NEWS: readonly TaskEvent['type'][] = [
  'attempt.started',
  'attempt.finished',
  'cancel.requested',
  'task.finished',
]

/** The log and the events as they come: drawn at most once a frame, however many pieces a flood brings. */
function useTaskStream(taskId: string, known: boolean, reload: () => void) {
  const log = useRef(new LogStore())
  const events = useRef<TaskEvent[]>([])
  const [version, setVersion] = useState(0)
  const [done, setDone] = useState(false)
  useEffect(() => {
    if (!known) return
    let frame = 0
    const draw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0
        setVersion(before => before + 1)
      })
    }
    const last = () => events.current.at(-1)?.seq ?? 0
    const close = listen({
      path: () => `tasks/${encodeURIComponent(taskId)}/stream?log=${log.current.seq}&events=${last()}`,
      on: {
        log: data => {
          log.current.append(data as Parameters<LogStore['append']>[0])
          draw()
        },
        event: data => {
          const more = (data as TaskEvent[]).filter(({ seq }) => seq > last())
          events.current = [...events.current, ...more]
          if (more.some(({ type }) => NEWS.includes(type))) reload()
          draw()
        },
        done: () => {
          close()
          setDone(true)
          reload()
        },
      },
    })
    return () => {
      cancelAnimationFrame(frame)
      close()
    }
  }, [taskId, known])
  return { log: log.current, events: events.current, version, done }
}
