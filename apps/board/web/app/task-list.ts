import { useEffect, useState } from 'preact/hooks'
import type { TaskList } from '../../src/api.js'
import { askJson, complaintOf } from './api.js'

const REFRESH_MS = 5000

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
        const search = new URLSearchParams()
        if (query.trim() !== '') search.set('q', query.trim())
        if (state !== '') search.set('state', state)
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
