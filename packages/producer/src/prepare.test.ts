import { SpecError } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { TaskConflictError } from './errors.js'
import { prepareTask, prepareTasks } from './prepare.js'

const task = (taskId: string, script = 'true') => ({ taskId, run: { script } })

function problemsOf(work: () => unknown): readonly string[] {
  try {
    work()
  } catch (error) {
    if (error instanceof SpecError) return error.problems
    throw error
  }
  throw new Error('it was accepted')
}

describe('prepareTask', () => {
  it('refuses an output schema that is none, before the task has run for nothing', () => {
    const capture = { outputSchema: { type: 'objekt' } }
    expect(problemsOf(() => prepareTask({ ...task('t-1'), capture }))).toEqual([
      expect.stringMatching(/^capture.outputSchema: no JSON Schema: .*type/),
    ])
  })

  it('takes an object for the JSON that it becomes', () => {
    const plain = prepareTask({ taskId: 't-1', run: { script: 'true' } })
    const messy = prepareTask({ run: { script: 'true' }, input: undefined, taskId: 't-1' })
    expect(messy.hash).toBe(plain.hash)
    expect(prepareTask('{ "run": {"script": "true"}, "taskId": "t-1" }').hash).toBe(plain.hash)
    expect(prepareTask({ ...task('t-1'), input: new Date(0) }).sent).toMatchObject({
      input: '1970-01-01T00:00:00.000Z',
    })
  })

  it('keeps what was sent, without the defaults', () => {
    expect(JSON.parse(prepareTask(task('t-1')).json)).toEqual(task('t-1'))
  })

  it('lists every problem at once', () => {
    const problems = problemsOf(() =>
      prepareTask({ taskId: '9', run: {}, enviroment: {}, limits: { timeout: -1 } }),
    )
    expect(problems).toHaveLength(4)
    expect(problems.join('\n')).toContain('did you mean "environment"?')
  })

  it('refuses what has no JSON', () => {
    const cycle: Record<string, unknown> = task('t-1')
    cycle.input = cycle
    expect(problemsOf(() => prepareTask(cycle))[0]).toContain('the task is no JSON')
    expect(problemsOf(() => prepareTask({ ...task('t-1'), input: 1n }))[0]).toContain('the task is no JSON')
    expect(problemsOf(() => prepareTask('{"taskId":'))[0]).toContain('the task is no JSON')
    expect(problemsOf(() => prepareTask(undefined as never))).toEqual(['a task must be a JSON object'])
  })
})

describe('prepareTasks', () => {
  it('names the task of each problem', () => {
    const problems = problemsOf(() =>
      prepareTasks([task('good'), { taskId: 'bad', run: {} }, { taskId: '1', run: 2 }]),
    )
    expect(problems.filter(problem => problem.startsWith('task 2 of 3 (bad): '))).toHaveLength(1)
    expect(problems.filter(problem => problem.startsWith('task 3 of 3 ((no valid taskId)): '))).toHaveLength(
      2,
    )
  })

  it('refuses one id for two contents, and takes the same content twice', () => {
    expect(() => prepareTasks([task('a'), task('a', 'false')])).toThrow(TaskConflictError)
    expect(prepareTasks([task('a'), task('a')])).toHaveLength(2)
  })
})
