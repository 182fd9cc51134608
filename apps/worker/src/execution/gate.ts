import type { Task } from '@agirunner/contracts'

/** Where things are inside every container. */
export const INSIDE = {
  workspace: '/workspace',
  repo: '/workspace/repo',
  context: '/workspace/context',
  output: '/workspace/output',
  home: '/home/agent',
  log: '/run/agirunner/log',
  gate: '/run/agirunner/gate',
  secrets: '/run/secrets',
} as const

/** In the gate's folder: a script, or a FIFO where a container waits for one. */
export const SCRIPT_FILE = 'f'

/** What PID 1's child runs: the script that the worker puts into the gate's folder. */
export const GATE_COMMAND: readonly string[] = ['/bin/sh', '-c', `. ${INSIDE.gate}/${SCRIPT_FILE}`]

/** The task's script beside the FIFO. */
export const TASK_FILE = 't'

/** What comes through the FIFO: short enough to be written at once, whatever a task has to run. */
export const PARKED_SCRIPT = `. ${INSIDE.gate}/${TASK_FILE}\n`

/**
 * The status with which the gate ends when it could not even reach the command. A task may end with the same status, so
 * the mark file tells the two apart.
 */
const GATE_FAILED = 125

/**
 * The script that turns a container into a task: redirects the log to files, goes to the repository and becomes the
 * command. In the file `s` it leaves marks, one a line:
 * `g` the gate was passed · `f WHAT` it failed · `b I O E T` step I began with O and E bytes in the logs at uptime T ·
 * `x I CODE T` step I ended.
 *
 * @param options.border set where the worker does not see the files: then the log stays on the container's own streams,
 *   each step begins with this text and its index in both of them, and `t I T` stands for `b`
 * @param options.notes lines that the runtime has to say of the workspace, for stderr
 * @param options.bootstrap commands that come before the task's own, as steps of their own with the first indexes; what
 *   follows is then a step as well, also where `run` has none
 * @param options.secrets whether `renderSecrets` lies beside it
 */
export function renderGate(
  run: Task['run'],
  env: Readonly<Record<string, string>>,
  {
    border = null,
    notes = [],
    bootstrap = [],
    secrets = false,
  }: {
    border?: string | null
    notes?: readonly string[]
    bootstrap?: Task['environment']['bootstrap']
    secrets?: boolean
  } = {},
): string {
  const { log, repo } = INSIDE
  const environment = renderEnvironment(env)
  const head = [
    `N='\n'`,
    border === null ? `exec 1>>${log}/o 2>>${log}/e </dev/null` : 'exec </dev/null',
    `fail() { echo "f $1" >>${log}/s; exit ${GATE_FAILED}; }`,
    // Whether the task sets variables of its own or not, its image is looked at alike.
    `command -v env >/dev/null || fail 'the image has no env'`,
    ...notes.map(note => `printf 'agirunner: %s\\n' ${quote(note)} >&2`),
    ...(secrets ? [`. ${INSIDE.gate}/${SECRETS_FILE}`] : []),
    `cd ${repo} || fail 'the workspace is not there'`,
    `echo g >>${log}/s`,
  ]
  const become = (command: Command) => renderBecoming(command, environment)
  const before = bootstrap.map(asCommand)
  const body = run.steps
    ? renderSteps([...before, ...run.steps], become, border)
    : before.length > 0
      ? renderSteps(before, become, border, run)
      : become(run)
  return [...head, ...body, ''].join('\n')
}

interface Environment {
  /** `'A=b' 'C=d'` */
  readonly byShell: string
  readonly byProgram: string
}

/**
 * Names to which no shell gives a meaning. It may export them itself, which spares the start of a program; all others (dotted
 * ones, `UID`, `IFS`, `LC_ALL`, …) are set by `env`.
 */
const PLAIN = /^(CI|HOME|TRACEPARENT|(AGIRUNNER|GIT)_[A-Z_]+|(https?|no|all)_proxy)$/i

function renderEnvironment(env: Readonly<Record<string, string>>): Environment {
  const words = (plain: boolean) =>
    Object.entries(env)
      .filter(([name]) => PLAIN.test(name) === plain)
      .map(([name, value]) => quote(`${name}=${value}`))
      .join(' ')
  return { byShell: words(true), byProgram: words(false) }
}

/** Lines that make the shell the command, with its environment. */
function renderBecoming(command: Command, { byShell, byProgram }: Environment): string[] {
  const words = renderCommand(command)
  // Some shells would take such a name for an option of `exec`; behind an assignment `env` does not.
  const isLikeOption = words.startsWith("'-")
  const assigned = isLikeOption ? `${byShell} ${byProgram}`.trim() : byProgram
  return [
    // The container's own variable for its init must not reach the task.
    'unset TINI_KILL_PROCESS_GROUP',
    ...(byShell === '' ? [] : [`export ${byShell}`]),
    `exec ${assigned === '' ? '' : `env ${assigned} `}${words}`,
  ]
}

/** Beside the gate: what it takes its secrets from. */
export const SECRETS_FILE = 'x'

/**
 * Sets and exports secrets. Not by `env`, as for all else: that would show them in the arguments of a process.
 *
 * @returns the script's bytes: a secret need not be UTF-8, but holds no NUL
 */
export function renderSecrets(secrets: ReadonlyMap<string, Buffer>): Buffer {
  const lines = [...secrets].map(
    ([name, value]) => `${name}=${quote(value.toString('latin1'))}\nexport ${name}\n`,
  )
  return Buffer.from(lines.join(''), 'latin1')
}

type Command = { readonly script?: string | undefined; readonly command?: readonly string[] | undefined }

function asCommand(text: string | readonly string[]): Command {
  return typeof text === 'string' ? { script: text } : { command: text }
}

function renderCommand({ script, command }: Command): string {
  if (script !== undefined) return `/bin/sh -c ${quote(script)}`
  return (command ?? []).map(quote).join(' ')
}

/**
 * Runs steps one after another up to the first that fails; a SIGTERM lets the running one end and starts no other.
 *
 * @param last what the gate becomes after them
 */
function renderSteps(
  steps: readonly Command[],
  become: (command: Command) => readonly string[],
  border: string | null,
  last: Command | null = null,
): string[] {
  const { log } = INSIDE
  const goesOn = `if [ "$code" = 0 ] && [ "$stop" = 0 ]; then`
  const end = [goesOn, `begin ${steps.length}`, 'trap - TERM', ...become(last ?? {}), 'fi']
  return [
    'stop=0',
    `trap 'stop=143' TERM`,
    'now() { read -r up idle </proc/uptime; echo "$up"; }',
    ...renderBegin(border),
    'code=0',
    ...steps.flatMap((step, index) => [
      goesOn,
      `begin ${index}`,
      '(trap - TERM',
      ...become(step),
      ')',
      'code=$?',
      `echo "x ${index} $code $(now)" >>${log}/s`,
      'fi',
    ]),
    ...(last === null ? [] : end),
    '[ "$code" != 0 ] || code=$stop',
    'exit "$code"',
  ]
}

/** What marks where a step begins. The border is written in two halves, so that who reads the script prints none. */
function renderBegin(border: string | null): string[] {
  const { log } = INSIDE
  if (border === null) {
    const offsets = `$(wc -c <${log}/o) $(wc -c <${log}/e)`
    return [
      'if command -v wc >/dev/null; then',
      `begin() { echo "b $1 ${offsets} $(now)" >>${log}/s; }`,
      // Without it nobody knows where in the log the step begins, only that it does.
      `else begin() { echo "t $1 $(now)" >>${log}/s; }; fi`,
    ]
  }
  const half = border.length / 2
  const text = `${quote(border.slice(0, half))}${quote(border.slice(half))}"$1"`
  return [`begin() { echo "t $1 $(now)" >>${log}/s; echo ${text}; echo ${text} >&2; }`]
}

/**
 * One word of the shell's, whatever bytes it holds. A newline goes through a variable, because a script that is read
 * from a FIFO may lose a raw one at the border of two reads.
 */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`).replaceAll('\n', `'"$N"'`)}'`
}
