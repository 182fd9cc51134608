import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { INSIDE, quote, renderGate } from './gate.js'
import { parseMarks } from './marks.js'
import { newBorder } from './step-borders.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gate-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Runs a gate in a real shell, its folders moved below a temporary one. */
function run(script: string): {
  code: number
  stdout: string
  stderr: string
  marks: ReturnType<typeof parseMarks>
} {
  const file = join(folder, 'f')
  writeFileSync(file, script.replaceAll(INSIDE.log, folder).replaceAll(INSIDE.repo, folder))
  for (const name of ['o', 'e', 's']) writeFileSync(join(folder, name), '')
  let code = 0
  try {
    execFileSync('/bin/sh', ['-c', `. ${file}`])
  } catch (error) {
    code = (error as { status: number }).status
  }
  const read = (name: string) => readFileSync(join(folder, name), 'utf8')
  return { code, stdout: read('o'), stderr: read('e'), marks: parseMarks(read('s')) }
}

describe('the gate', () => {
  it('redirects both streams, sets the environment and passes the exit code on', () => {
    const result = run(
      renderGate({ script: 'echo "$A"; echo err >&2; exit 7' }, { A: "it's\na 'test' $HOME `x` \\" }),
    )
    expect(result).toMatchObject({ code: 7, stdout: "it's\na 'test' $HOME `x` \\\n", stderr: 'err\n' })
    expect(result.marks.passed).toBe(true)
  })

  it('passes every byte of an argument on', () => {
    const bytes = Array.from({ length: 255 }, (_, index) => String.fromCharCode(index + 1)).join('')
    expect(run(renderGate({ command: ['printf', '%s', bytes, ''] }, {})).stdout).toBe(bytes)
  })

  it('has names in the environment that no shell could export', () => {
    expect(run(renderGate({ command: ['env'] }, { 'dotted.name': '1' })).stdout).toContain(
      '\ndotted.name=1\n',
    )
  })

  it('exports what no shell gives a meaning to, and starts no other program for it', () => {
    const env = { CI: 'true', HOME: '/x', GIT_AUTHOR_NAME: "it's\nme", AGIRUNNER_TASK_ID: 't', no_proxy: '*' }
    const script = renderGate(
      { script: 'echo "$CI $HOME $GIT_AUTHOR_NAME $AGIRUNNER_TASK_ID $no_proxy"' },
      env,
    )
    expect(script).not.toMatch(/exec env/)
    expect(run(script).stdout).toBe("true /x it's\nme t *\n")
  })

  it.each(['IFS', 'UID', 'OPTIND', 'LC_ALL', 'N', '_'])('gives %s to the command and not to itself', name => {
    const { code, stdout } = run(renderGate({ command: ['env'] }, { [name]: 'x' }))
    expect({ code, stdout: `\n${stdout}` }).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`\n${name}=x\n`),
    })
    expect(run(renderGate({ command: ['printf', '%s', 'a\nb'] }, { [name]: 'x' })).stdout).toBe('a\nb')
  })

  it('says 127 for a command that is not there', () => {
    for (const name of ['no-such-program', '-x', 'a=b'])
      expect(run(renderGate({ command: [name] }, { CI: 'true' })).code).toBe(127)
  })

  it('has its input at its end', () => {
    expect(run(renderGate({ script: 'cat; echo done' }, {})).stdout).toBe('done\n')
  })

  it('runs steps up to the first that fails and marks each', () => {
    const steps = [
      { name: 'one', script: 'echo 1' },
      { name: 'two', script: 'echo 2; exit 3' },
      { name: 'three', script: 'echo 3' },
    ]
    const result = run(renderGate({ steps }, {}))
    expect(result).toMatchObject({ code: 3, stdout: '1\n2\n' })
    expect(result.marks.steps.map(step => [step.index, step.exitCode, step.stdoutOffset])).toEqual([
      [0, 0, 0],
      [1, 3, 2],
    ])
  })

  it('lets a script that replaces the shell change nothing outside its step', () => {
    const steps = [
      { name: 'one', script: 'cd /; X=1; trap "" TERM' },
      { name: 'two', script: 'pwd; echo "[$X]"' },
    ]
    expect(run(renderGate({ steps }, {})).stdout).toBe(`${folder}\n[]\n`)
  })

  it('says what kept it from the command', () => {
    const script = renderGate({ script: 'true' }, {}).replace(INSIDE.repo, '/nowhere')
    expect(run(script)).toMatchObject({
      code: 125,
      marks: { passed: false, failure: 'the workspace is not there' },
    })
  })
})

describe('a gate with a bootstrap', () => {
  const bootstrap = ['echo one; cd /', ['sh', '-c', 'echo "$1"', 'sh', "it's two"]]

  it('runs it before the command, and becomes the command', () => {
    const result = run(renderGate({ script: 'pwd; exit 4' }, { A: 'b' }, { bootstrap }))
    expect(result).toMatchObject({ code: 4, stdout: `one\nit's two\n${folder}\n` })
    expect(result.marks.steps.map(step => [step.index, step.exitCode, step.stdoutOffset])).toEqual([
      [0, 0, 0],
      [1, 0, 4],
      [2, null, 13],
    ])
  })

  it('runs it before the steps, with the first indexes', () => {
    const steps = [{ name: 'build', script: 'exit 3' }]
    const { code, marks } = run(renderGate({ steps }, {}, { bootstrap }))
    expect(code).toBe(3)
    expect(marks.steps.map(step => [step.index, step.exitCode])).toEqual([
      [0, 0],
      [1, 0],
      [2, 3],
    ])
  })

  it('goes no further than the first that fails', () => {
    const { code, stdout, marks } = run(
      renderGate({ script: 'echo task' }, {}, { bootstrap: ['exit 9', 'echo two'] }),
    )
    expect({ code, stdout, steps: marks.steps.length }).toEqual({ code: 9, stdout: '', steps: 1 })
  })

  it('says 127 for a command of the task that is not there', () => {
    expect(run(renderGate({ command: ['no-such-program'] }, {}, { bootstrap })).code).toBe(127)
  })

  it('tells where the task begins also where there is no wc', () => {
    const hidden = renderGate({ script: 'true' }, {}, { bootstrap: ['true'] }).replace(
      'command -v wc',
      'false',
    )
    expect(run(hidden).marks.steps).toMatchObject([
      { index: 0, exitCode: 0, durationMs: expect.any(Number), stdoutOffset: Number.POSITIVE_INFINITY },
      { index: 1, startedMs: expect.any(Number) },
    ])
  })
})

describe('a gate whose files the worker does not see', () => {
  const border = newBorder()

  /** Its two streams, and the marks that it left in the file. */
  function runPiped(script: string) {
    const file = join(folder, 'f')
    writeFileSync(file, script.replaceAll(INSIDE.log, folder).replaceAll(INSIDE.repo, folder))
    writeFileSync(join(folder, 's'), '')
    const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', `. ${file}`], { encoding: 'latin1' })
    return { code: status, stdout, stderr, marks: readFileSync(join(folder, 's'), 'utf8') }
  }

  it('leaves its streams as they are', () => {
    const result = runPiped(renderGate({ script: 'echo out; echo err >&2; cat; exit 7' }, {}, { border }))
    expect(result).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n', marks: 'g\n' })
  })

  it('prints a border to both where a step begins, and marks when it began and how it ended', () => {
    const steps = [
      { name: 'one', script: 'printf 1' },
      { name: 'two', script: 'printf 2 >&2; exit 3' },
    ]
    const result = runPiped(renderGate({ steps }, {}, { border }))
    expect(result.stdout).toBe(`${border}0\n1${border}1\n`)
    expect(result.stderr).toBe(`${border}0\n${border}1\n2`)
    expect(parseMarks(`o 0 0\ne 0 0\no 1 1\ne 1 0\n${result.marks}`).steps).toMatchObject([
      { index: 0, stdoutOffset: 0, stderrOffset: 0, exitCode: 0, durationMs: expect.any(Number) },
      { index: 1, stdoutOffset: 1, stderrOffset: 0, exitCode: 3, durationMs: expect.any(Number) },
    ])
  })

  it('shows no border to a task that prints the script', () => {
    const steps = [{ name: 'one', script: `cat ${INSIDE.gate}/f`.replace(INSIDE.gate, folder) }]
    expect(runPiped(renderGate({ steps }, {}, { border })).stdout.split(border)).toHaveLength(2)
  })
})

describe('marks', () => {
  it('tell of a step that has begun in one stream only that', () => {
    const { steps } = parseMarks('o 0 0\no 1 12\ne 0 0\n')
    expect(steps.map(step => [step.stdoutOffset, step.stderrOffset])).toEqual([
      [0, 0],
      [12, Number.POSITIVE_INFINITY],
    ])
  })

  it('tell that output was lost', () => {
    expect(parseMarks('g\nl\n')).toMatchObject({ passed: true, lost: true })
  })

  it('pass over what does not fit their form', () => {
    const marks = parseMarks('g\nb 0 0 0 1.50\nnonsense\nx 0 0 oops\nx 0 4 2.25\nx 0 0 9\nx 7 0 1\n')
    expect(marks).toEqual({
      passed: true,
      failure: null,
      lost: false,
      steps: [{ index: 0, stdoutOffset: 0, stderrOffset: 0, startedMs: 1500, exitCode: 4, durationMs: 750 }],
    })
  })
})

describe('quote', () => {
  it('leaves nothing for the shell to read', () => {
    expect(quote("a'b")).toBe(`'a'\\''b'`)
  })
})
