import type { TaskRow } from '../../src/api.js'
import { useNow } from '../app/hooks.js'
import { age, duration } from '../lib/format.js'
import { memo } from './memo.js'
import { Status } from './status.js'

export function TaskTable({ tasks, empty }: { tasks: readonly TaskRow[]; empty: string }) {
  const now = useNow(5000)
  if (tasks.length === 0) return <p class="nothing">{empty}</p>
  return (
    <table class="list cards">
      <thead>
        <tr>
          <th scope="col">Task</th>
          <th scope="col">Status</th>
          <th scope="col">Failure</th>
          <th scope="col">Tenant</th>
          <th scope="col" class="right">
            Duration
          </th>
          <th scope="col" class="right">
            When
          </th>
        </tr>
      </thead>
      <tbody>
        {tasks.map(task => (
          <Row
            key={task.taskId}
            taskId={task.taskId}
            tenantId={task.tenantId}
            status={task.status ?? task.state}
            code={task.code}
            at={task.at}
            ago={age(task.at, now)}
            wallMs={task.wallMs}
          />
        ))}
      </tbody>
    </table>
  )
}

interface RowProps {
  readonly taskId: string
  readonly tenantId: string
  readonly status: string
  readonly code: string | null
  readonly at: string | null
  readonly ago: string
  readonly wallMs: number | null
}

const Row = memo(({ taskId, tenantId, status, code, at, ago, wallMs }: RowProps) => (
  <tr>
    <td class="first">
      <a class="mono" href={`tasks/${encodeURIComponent(taskId)}`}>
        {taskId}
      </a>
    </td>
    <td data-label="Status">
      <Status name={status} />
    </td>
    <td data-label="Failure" class="mono">
      {code ?? ''}
    </td>
    <td data-label="Tenant">{tenantId}</td>
    <td data-label="Duration" class="right">
      {duration(wallMs)}
    </td>
    <td data-label="When" class="right" title={at ?? undefined}>
      {ago}
    </td>
  </tr>
))
