import { useEffect, useState } from 'preact/hooks'
import type { TaskView } from '../../../src/api.js'
import { ask, complaintOf } from '../../app/api.js'
import { bytes, count } from '../../lib/format.js'
import { DiffView } from '../../parts/diff-view.js'
import { JsonView } from '../../parts/json-view.js'
import { memo } from '../../parts/memo.js'
import { Complaint, Loading } from '../../parts/page-state.js'

/** A bigger patch is not shown: it is downloaded. */
const BIG_PATCH = 5 * 1024 * 1024

export const Change = memo(({ task: { taskId, result } }: { task: TaskView }) => {
  const changes = result?.changes
  if (!changes) return null
  const { files, insertions, deletions, patch, commits, notes, pushed } = changes
  const size = patch?.sizeBytes ?? 0
  return (
    <section class="card flush" aria-labelledby="change">
      <h2 id="change">
        Change{' '}
        <span class="muted">
          {count(files.length)} {files.length === 1 ? 'file' : 'files'}
        </span>{' '}
        <span class="counts">
          <span class="plus">+{count(insertions)}</span> <span class="minus">−{count(deletions)}</span>
        </span>
        {patch && (
          <a href={`api/tasks/${encodeURIComponent(taskId)}/patch`} download={`${taskId}.patch`}>
            Patch ({bytes(size)})
          </a>
        )}
      </h2>
      {pushed && (
        <p class="note">
          Pushed as <code>{pushed.branch}</code> at <code>{pushed.sha.slice(0, 12)}</code>
        </p>
      )}
      {commits.length > 0 && (
        <ul class="commits">
          {commits.map(({ sha, message, author }) => (
            <li key={sha}>
              <code>{sha.slice(0, 10)}</code> {message.split('\n')[0]}{' '}
              <span class="muted">{author.name}</span>
            </li>
          ))}
        </ul>
      )}
      {notes.map(note => (
        <p key={note} class="note">
          {note}
        </p>
      ))}
      {files.length === 0 && <p class="nothing">It changed nothing in the repository.</p>}
      {patch && size <= BIG_PATCH && files.length > 0 && <Patch taskId={taskId} />}
      {patch && size > BIG_PATCH && <p class="nothing">The patch is too big to show here.</p>}
    </section>
  )
})

function Patch({ taskId }: { taskId: string }) {
  const [patch, setPatch] = useState<string | null>(null)
  const [complaint, setComplaint] = useState<string | null>(null)
  useEffect(() => {
    const abort = new AbortController()
    ask(`tasks/${encodeURIComponent(taskId)}/patch`, { signal: abort.signal })
      .then(response => response.text())
      .then(setPatch)
      .catch((error: unknown) => setComplaint(complaintOf(error)))
    return () => abort.abort()
  }, [taskId])
  if (complaint !== null) return <Complaint text={complaint} />
  return patch === null ? <Loading what="the change" /> : <DiffView patch={patch} />
}

export const Artifacts = memo(({ task: { taskId, result } }: { task: TaskView }) => {
  if (!result || (result.artifacts.length === 0 && result.skipped.length === 0)) return null
  const address = (path: string) =>
    `api/tasks/${encodeURIComponent(taskId)}/artifacts/${path.split('/').map(encodeURIComponent).join('/')}`
  return (
    <section class="card flush" aria-labelledby="artifacts">
      <h2 id="artifacts">Artifacts</h2>
      {result.artifacts.length > 0 && (
        <table class="list cards">
          <thead>
            <tr>
              <th scope="col">Path</th>
              <th scope="col">Type</th>
              <th scope="col">SHA-256</th>
              <th scope="col" class="right">
                Size
              </th>
            </tr>
          </thead>
          <tbody>
            {result.artifacts.map(({ path, sizeBytes, sha256, mediaType }) => (
              <tr key={path}>
                <td class="first">
                  <a class="mono" href={address(path)} download>
                    {path}
                  </a>
                </td>
                <td data-label="Type">{mediaType}</td>
                <td data-label="SHA-256" class="mono" title={sha256}>
                  {sha256.slice(0, 16)}…
                </td>
                <td data-label="Size" class="right">
                  {bytes(sizeBytes)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {result.skipped.map(({ path, reason }) => (
        <p key={path} class="note">
          Left out <code>{path}</code>: {reason}
        </p>
      ))}
    </section>
  )
})

export const Output = memo(({ task: { result } }: { task: TaskView }) => {
  if (!result) return null
  return (
    <>
      {result.output !== null && (
        <section class="card" aria-labelledby="output">
          <h2 id="output">Output</h2>
          <JsonView value={result.output} depth={3} />
        </section>
      )}
      <section class="card" aria-labelledby="result">
        <h2 id="result">Result</h2>
        <JsonView value={result} depth={0} />
      </section>
    </>
  )
})

export const Spec = memo(({ task }: { task: TaskView }) => {
  return (
    <section class="card" aria-labelledby="spec">
      <h2 id="spec">Task as it was sent</h2>
      <JsonView value={task.spec} depth={2} />
    </section>
  )
})
