import { useEffect, useState } from 'preact/hooks'
import type { TaskList, TaskState } from '../../src/api.js'
import { askJson, complaintOf } from '../app/api.js'
import { useTitle } from '../app/hooks.js'
import { Complaint, Loading } from '../parts/page-state.js'
import { TaskTable } from '../parts/task-table.js'

const REFRESH_MS = 5000
const STATES: readonly TaskState[] = ['queued', 'running', 'finished']

export function TasksPage() {
  const [query, setQuery] = useState('')
  const [state, setState] = useState('')
  const { list, complaint } = useTaskList(query, state)
  useTitle('Tasks')
  return (
    <>
      <div class="head">
        <h1>Tasks</h1>
        <div class="filters" role="search">
          <input
            type="search"
            aria-label="Search tasks by id or tenant"
            placeholder="Search id or tenant"
            value={query}
            onInput={event => setQuery(event.currentTarget.value)}
          />
          <select aria-label="State" value={state} onInput={event => setState(event.currentTarget.value)}>
            <option value="">Any state</option>
            {STATES.map(name => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </div>
      </div>
      <Complaint text={complaint} />
      {list === null ? (
        complaint === null && <Loading what="tasks" />
      ) : (
        <section class="card flush" aria-label="Tasks">
          <TaskTable tasks={list.tasks} empty="No task fits. Tasks are here until 7 days after their end." />
          {list.more && <p class="nothing">More tasks wait than are listed: search for one by its id.</p>}
        </section>
      )}
    </>
  )
}

/** The list that fits, read again every few seconds and soon after a key was pressed. */
export function useTaskList(
  query: string,
  state: string,
): { list: TaskList | null; complaint: string | null } {
  const [list, setList] = useState<TaskList | null>(null)
  const [complaint, setComplaint] = useState<string | null>(null)
  useEffect(() => {
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout>
    const read = async () => {
      try {
        const search = new URLSearchParams({ q: query.trim(), state })
        setList(await askJson<TaskList>(`tasks?${search}`, { signal: abort.signal }))
        setComplaint(null)
      } catch (error) {
        if (!abort.signal.aborted) setComplaint(complaintOf(error))
      }
      if (!abort.signal.aborted) timer = setTimeout(() => void read(), REFRESH_MS)
    }
    timer = setTimeout(() => void read(), list === null ? 0 : 200)
    return () => {
      abort.abort()
      clearTimeout(timer)
    }
  }, [query, state])
  return { list, complaint }
}
