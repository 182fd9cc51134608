import { constants } from 'node:os'
import {
  type Failure,
  type FailureCode,
  type Phase,
  type Status,
  type Task,
  TaskFailure,
} from '@agirunner/contracts'
import type { CapturedOutputs } from '../capture/capture.js'
import type { Limit } from '../execution/limit.js'
import { bootstrapFailure } from './bootstrap-failure.js'

/**
 * What a sealed run amounts to: null when it succeeded. Precedence: canceled, deadline, limit, a container that never
 * became the task, out of memory, processes, a signal of others, exit, output. Nothing is guessed from the exit code 137.
 */
export function judge(task: Task, outputs: CapturedOutputs): TaskFailure | null {
  const { exit, output, steps } = outputs
  const inRun = (code: FailureCode, message: string) => new TaskFailure(code, message, { phase: exit.during })
  if (exit.cause === 'canceled') return inRun('task.canceled', 'the task was canceled while it ran')
  if (exit.cause === 'deadline' && exit.during === 'bootstrap') return bootstrapFailure(task, exit)
  if (exit.cause === 'deadline')
    return inRun('task.timeout', `the task ran longer than limits.timeout, ${task.limits.timeout} s`)
  if (exit.cause === 'idle')
    return inRun(
      'task.idle_timeout',
      `the task did nothing for limits.idleTimeout, ${task.limits.idleTimeout} s`,
    )
  const limit = outputs.overLogCeiling ? 'task.log_limit' : (exit.limit ?? outputs.disk.over)
  if (limit) return inRun(limit, passed(limit, task))
  if (exit.cause === 'lost') {
    const why = 'the container is gone, or ended because the container engine did'
    return inRun('engine.restarted', `${why}; what it had done until then is captured`)
  }
  const gate = judgeGate(outputs)
  if (gate) return gate
  if (exit.code !== 0 && exit.oomKilled) {
    return inRun(
      'task.out_of_memory',
      `the task used more than its ${task.environment.resources.memory} bytes of memory`,
    )
  }
  if (exit.code !== 0 && exit.pidsExceeded) {
    const { pids } = task.environment.resources
    return inRun('task.pids_exhausted', `the task tried to have more than its ${pids} processes and threads`)
  }
  if (exit.killedByOthers) {
    return new TaskFailure('task.killed', `${exit.signal} was sent to the container through the engine`, {
      phase: exit.during,
      hint: 'it was neither the task nor the runtime: ask who uses the container engine, as by `docker kill`',
    })
  }
  if (exit.code !== 0 && outputs.disk.wasFull) {
    const why = `the task filled its disk of ${task.environment.resources.disk} bytes, and ended with exit code ${exit.code}`
    return inRun('task.disk_full', why)
  }
  if (exit.code !== 0 && exit.during === 'bootstrap') return bootstrapFailure(task, exit)
  if (exit.code !== 0) {
    const failed = steps.find(step => step.exitCode !== null && step.exitCode !== 0)
    const what = failed ? `step "${failed.name}"` : 'the command'
    return inRun('task.exit_nonzero', `${what} ended with exit code ${exit.code}${explain(exit.code)}`)
  }
  return output.failure
}

function passed(limit: Limit, { environment, limits }: Task): string {
  switch (limit) {
    case 'task.log_limit':
      return 'the task printed more than the operator allows'
    case 'task.disk_full':
      return `the task wrote more than environment.resources.disk, ${environment.resources.disk} bytes`
    case 'task.output_limit':
      return `the task left more in output than limits.outputBytes, ${limits.outputBytes} bytes`
  }
}

function judgeGate({ exit }: CapturedOutputs): TaskFailure | null {
  // A task may spoil its marks, so they are asked only where the gate or a missing shell could be the cause.
  if (exit.marks.passed || ![125, 126, 127].includes(exit.code ?? 0)) return null
  const why = exit.marks.failure ?? 'it has no /bin/sh that runs'
  return new TaskFailure('image.incompatible', `the image can't run tasks: ${why}`, { phase: 'start' })
}

function explain(code: number | null): string {
  if (code === 127) return ', which a shell says when a command is not found'
  if (code === 126) return ', which a shell says when a file can’t be executed'
  const signal = Object.entries(constants.signals).find(([, number]) => number + 128 === code)?.[0]
  if (signal === undefined) return ''
  return `, which a shell also says of what ${signal} ended; neither the runtime nor anybody by the engine sent it`
}

export function statusOf(failure: Failure | TaskFailure | null): Status {
  if (failure === null) return 'succeeded'
  if (failure.code === 'task.canceled') return 'canceled'
  if (failure.code === 'task.timeout' || failure.code === 'task.idle_timeout') return 'timed_out'
  return 'failed'
}

/** Any error as a typed failure: what no room typed is the machinery's, by the phase it came from. */
export function asTaskFailure(error: unknown, phase: Phase): TaskFailure {
  if (error instanceof TaskFailure) return error
  const message = error instanceof Error ? error.message : String(error)
  const code: FailureCode =
    phase === 'capture' || phase === 'report' ? 'capture.failed' : 'container.create_failed'
  return new TaskFailure(code, `unexpected: ${message}`, { phase, cause: error })
}
