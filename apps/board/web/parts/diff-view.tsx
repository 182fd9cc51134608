import { useMemo, useState } from 'preact/hooks'
import { type DiffFile, type DiffLine, filesOf, type Hunk } from '../lib/diff.js'
import { count } from '../lib/format.js'
import { memo } from './memo.js'

/** A file with more lines than this is folded at first, and more files than that are too. */
const BIG_FILE = 400
const MANY_FILES = 20
/** Lines that are drawn of one file before asking for more. */
const PAGE = 2000

export function DiffView({ patch }: { patch: string }) {
  const files = useMemo(() => filesOf(patch), [patch])
  const [open, setOpen] = useState<Readonly<Record<string, boolean>>>({})
  const isOpen = (file: DiffFile, index: number) =>
    open[file.path] ?? (index < MANY_FILES && file.added + file.removed <= BIG_FILE)
  return (
    <>
      <FileList files={files} onPick={path => setOpen({ ...open, [path]: true })} />
      {files.map((file, index) => (
        <File
          key={file.path}
          file={file}
          id={idOf(file.path)}
          open={isOpen(file, index)}
          onToggle={() => setOpen({ ...open, [file.path]: !isOpen(file, index) })}
        />
      ))}
    </>
  )
}

const idOf = (path: string) => `file-${encodeURIComponent(path)}`

const LETTERS: Readonly<Record<DiffFile['status'], string>> = {
  added: 'A',
  modified: 'M',
  deleted: 'D',
  renamed: 'R',
  copied: 'C',
}

function FileList({ files, onPick }: { files: readonly DiffFile[]; onPick: (path: string) => void }) {
  return (
    <ul class="files">
      {files.map(({ path, from, status, added, removed, binary }) => (
        <li key={path}>
          <abbr class={`letter ${status}`} title={status}>
            {LETTERS[status]}
          </abbr>
          <button
            type="button"
            class="link mono"
            onClick={() => {
              onPick(path)
              requestAnimationFrame(() => document.getElementById(idOf(path))?.focus())
            }}
          >
            {from === null ? path : `${from} → ${path}`}
          </button>
          <Counts added={added} removed={removed} binary={binary} />
        </li>
      ))}
    </ul>
  )
}

function Counts({ added, removed, binary }: { added: number; removed: number; binary: boolean }) {
  if (binary) return <span class="muted">binary</span>
  return (
    <span class="counts">
      <span class="plus">+{count(added)}</span> <span class="minus">−{count(removed)}</span>
    </span>
  )
}

interface FileProps {
  readonly file: DiffFile
  readonly id: string
  readonly open: boolean
  readonly onToggle: () => void
}

function File({ file, id, open, onToggle }: FileProps) {
  return (
    <div class="file">
      <button type="button" class="section" id={id} aria-expanded={open} onClick={onToggle}>
        <i aria-hidden="true">{open ? '▾' : '▸'}</i>
        <b class="mono">{file.from === null ? file.path : `${file.from} → ${file.path}`}</b>
        <span class="muted">
          {file.status}
          {file.mode !== null && ` · mode ${file.mode}`}
        </span>
        <Counts added={file.added} removed={file.removed} binary={file.binary} />
      </button>
      {open && <Content file={file} />}
    </div>
  )
}

const Content = memo(({ file }: { file: DiffFile }) => {
  const [most, setMost] = useState(PAGE)
  if (file.binary) return <p class="nothing">A binary file: its bytes are in the patch.</p>
  if (file.hunks.length === 0) return <p class="nothing">Its content is the same.</p>
  const all = file.hunks.reduce((sum, { lines }) => sum + lines.length, 0)
  return (
    <div class="diff" role="region" aria-label={`Change of ${file.path}`} tabIndex={0}>
      <table>
        <thead class="hidden">
          <tr>
            <th scope="col">Before</th>
            <th scope="col">After</th>
            <th scope="col">Line</th>
          </tr>
        </thead>
        {hunksWithin(file.hunks, most).map((hunk, index) => (
          <HunkRows key={index} hunk={hunk} />
        ))}
      </table>
      {all > most && (
        <button type="button" onClick={() => setMost(most + 5 * PAGE)}>
          Show more of {count(all - most)} lines
        </button>
      )}
    </div>
  )
})

function hunksWithin(hunks: readonly Hunk[], most: number): Hunk[] {
  let left = most
  return hunks.flatMap(({ header, lines }) => {
    if (left <= 0) return []
    const cut = lines.slice(0, left)
    left -= cut.length
    return [{ header, lines: cut }]
  })
}

const SIGNS: Readonly<Record<DiffLine['kind'], string>> = { context: ' ', added: '+', removed: '−', note: '' }

function HunkRows({ hunk }: { hunk: Hunk }) {
  return (
    <tbody>
      <tr class="hunk">
        <td colSpan={3}>{hunk.header}</td>
      </tr>
      {hunk.lines.map(({ kind, before, after, text }, index) => (
        <tr key={index} class={kind}>
          <td class="nr">{before}</td>
          <td class="nr">{after}</td>
          <td>
            <code>
              <span class="sign">{SIGNS[kind]}</span>
              {text}
            </code>
          </td>
        </tr>
      ))}
    </tbody>
  )
}
