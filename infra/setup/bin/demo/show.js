// Everything that the demo prints. Colours only where a person sees them.
const colours = process.stdout.isTTY && !process.env.NO_COLOR
/** @param {number} code @returns {(text: string) => string} */
const paint = code => text => (colours ? `\u001b[${code}m${text}\u001b[0m` : text)
const bold = paint(1)
const dim = paint(2)
const red = paint(31)
const green = paint(32)
const cyan = paint(36)

const patchLines = 60
const barWidth = 32

/** @param {string} text */
export function plain(text) {
  console.log(text)
}

/** @param {string} title @param {string} about */
export function chapter(title, about) {
  console.log(`\n${bold(`── ${title}`)} ${dim(`· ${about}`)}`)
}

/** @param {string} line */
export function quiet(line) {
  console.log(`   ${dim(line)}`)
}

/** @param {string} text */
export function note(text) {
  console.log(`   ${text}`)
}

/** @param {unknown} error */
export function error(error) {
  console.error(red(`error: ${error instanceof Error ? error.message : String(error)}`))
}

/** The set-up was shown already, and `ready` is shown in its own way. @param {string} line */
export function fromUp(line) {
  if (/^(setup: |ready |board login: )/.test(line)) return
  quiet(line)
}

/** The command's own lines stand apart from the task's log. @param {string} line */
export function fromRun(line) {
  const own = /^agirunner: (.*)$/.exec(line)
  if (own) console.log(`   ${cyan('▸')} ${dim(own[1] ?? '')}`)
  else if (line.startsWith('error: ')) console.log(`   ${red(line)}`)
  else console.log(`   ${dim('│')} ${line}`)
}

/** @param {import('./commands.js').Ready} ready */
export function ready({ worker, board }) {
  note(`worker  ${worker.id}`)
  note(
    `board   ${bold(board.url)}  ${dim(`user ${board.user}, password ${board.password ?? 'as you have set it'}`)}`,
  )
}

/** @param {any} result a TaskResult */
export function result({ status, exit, base, changes, output, timings, steps }) {
  chapter('Result', 'what the platform gets back')
  const mark = status === 'succeeded' ? green('✔') : red('✘')
  note(`${mark} ${bold(status)}${exit?.code === null || !exit ? '' : `, exit ${exit.code}`}`)
  if (base?.commit) note(`${dim('base')}     ${base.commit.slice(0, 12)} ${dim(`(${base.ref})`)}`)
  for (const { name, exitCode, durationMs } of steps) {
    note(
      `${dim('step')}     ${name} ${dim(`exit ${exitCode ?? '-'}${durationMs === null ? '' : `, ${durationMs} ms`}`)}`,
    )
  }
  for (const { sha, message } of changes?.commits ?? [])
    note(`${dim('commit')}   ${sha.slice(0, 12)} ${message.split('\n')[0]}`)
  for (const file of changes?.files ?? []) note(`${dim(file.status.padEnd(8))} ${file.path}`)
  if (output !== null) note(`${dim('output')}   ${JSON.stringify(output)}`)
  chapter('Timings', 'in milliseconds')
  bars(timings)
}

/** @param {Record<string, number | null>} timings */
function bars(timings) {
  const reached = Object.entries(timings).flatMap(([name, ms]) =>
    ms === null ? [] : [{ name: name.replace(/Ms$/, ''), ms }],
  )
  const longest = Math.max(1, ...reached.map(({ ms }) => ms))
  for (const { name, ms } of reached) {
    const bar = '█'.repeat(Math.round((ms / longest) * barWidth)) || '▏'
    note(`${name.padEnd(10)} ${String(ms).padStart(6)}  ${cyan(bar)}`)
  }
}

/** @param {string} taskId @param {string} text */
export function patch(taskId, text) {
  const lines = text.replace(/\n$/, '').split('\n')
  chapter('Patch', `what \`agirunner patch ${taskId} | git apply --index --binary\` would apply`)
  for (const line of lines.slice(0, patchLines)) note(paintDiff(line))
  if (lines.length > patchLines) note(dim(`… and ${lines.length - patchLines} more lines`))
}

/** @param {string} line */
function paintDiff(line) {
  if (/^(diff|index|---|\+\+\+|new file|deleted file)/.test(line)) return dim(line)
  if (line.startsWith('+')) return green(line)
  if (line.startsWith('-')) return red(line)
  return line.startsWith('@@') ? cyan(line) : line
}

/** @param {number} code @param {number} ms */
export function end(code, ms) {
  const seconds = (ms / 1000).toFixed(1)
  console.log(
    code === 0
      ? `\n${green('✔')} done in ${seconds} s; nothing is left running\n`
      : `\n${red('✘')} ended with ${code} after ${seconds} s\n`,
  )
}
