import { useState } from 'preact/hooks'
import type { TaskState } from '../../src/api.js'
import { useTitle } from '../app/hooks.js'
import { useTaskList } from '../app/task-list.js'
import { Complaint, Loading } from '../parts/page-state.js'
import { TaskTable } from '../parts/task-table.js'

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
