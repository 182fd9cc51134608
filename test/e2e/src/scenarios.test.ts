import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { ResultSchema } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, importEmptyImage, newTaskId, readLogs, untilParked, type World } from './support.js'

interface Expected {
  readonly result: object
  readonly stdout?: string
  readonly stderr?: string
  readonly stdoutBytes?: number
  readonly logSteps?: readonly string[]
}

const ROOT = fileURLToPath(new URL('../scenarios/', import.meta.url))
const NAMES = readdirSync(ROOT).toSorted()

/** Reads a scenario's file with the addresses of this run in it. */
function read<T>(name: string, file: string, values: Record<string, string>): T {
  const text = readFileSync(`${ROOT}${name}/${file}`, 'utf8')
  return JSON.parse(text.replace(/\{\{(\w+)\}\}/g, (_all, key: string) => values[key] ?? '')) as T
}

/** With parking, each runs twice: in a container of its own, and in one that the first left to be parked. */
const MODES = [
  { strategy: 'late_overlay', parked: true },
  { strategy: 'copy', parked: false },
  { strategy: 'archive', parked: false },
] as const

describe.each(MODES)('scenarios with strategy $strategy, parked: $parked', ({ strategy, parked }) => {
  let world: World
  const image = importEmptyImage()
  beforeAll(async () => {
    world = await createWorld()
    await world.startWorker({
      AGIRUNNER_STRATEGY: strategy,
      AGIRUNNER_PARK: parked ? '3' : '0',
      AGIRUNNER_HOST_ROOTS: world.hostRoot,
      AGIRUNNER_EGRESS_PRIVATE: new URL(world.server.url).host,
      AGIRUNNER_BOOTSTRAP_SECONDS: '3',
    })
  })
  afterAll(async () => {
    const onHost = readdirSync(world.hostRoot, { recursive: true }).map(String).toSorted()
    await world.close()
    image.remove()
    expect(onHost).toEqual(['app', 'app/a.txt'])
  })

  /** The task that a scenario's own goes on from, run to its end; '' where there is none. */
  async function runEarlier(name: string, values: Record<string, string>): Promise<string> {
    if (!existsSync(`${ROOT}${name}/earlier.json`)) return ''
    const taskId = newTaskId('e')
    await world.producer.enqueue({ ...read<TaskInput>(name, 'earlier.json', values), taskId })
    const earlier = await world.producer.waitForResult(taskId)
    // It took what waited.
    if (parked) await untilParked(world, earlier)
    return taskId
  }

  it.each(NAMES)('%s', async name => {
    const first = await runOnce(name)
    if (!parked || first.container === null) return
    await untilParked(world, first)
    const second = await runOnce(name)
    // An image without a shell has no gate to wait at.
    if (first.failure?.code === 'image.incompatible') return
    expect(second.container?.parked).toBe(true)
    expect(second.container?.id).not.toBe(first.container.id)
  })

  async function runOnce(name: string): Promise<TaskResult> {
    const taskId = newTaskId('s')
    const { repoUrl: repo, server, hostRoot } = world
    const outward = `${server.url}/outward.git`
    const serverHost = new URL(server.url).host
    const places = { repo, outward, server: server.url, serverHost, hostRoot, emptyImage: image.name }
    const values = { ...places, taskId, earlier: await runEarlier(name, places) }
    await world.producer.enqueue({ ...read<TaskInput>(name, 'task.json', values), taskId })
    const result = await world.producer.waitForResult(taskId)
    const expected = read<Expected>(name, 'expected.json', values)
    const logged = await readLogs(world.producer, taskId)

    expect(ResultSchema.strict().parse(result)).toEqual(result)
    expect(result).toMatchObject(expected.result)
    if (expected.stdout !== undefined) expect(logged.stdout).toBe(expected.stdout)
    if (expected.stderr !== undefined) expect(logged.stderr).toBe(expected.stderr)
    if (expected.stdoutBytes !== undefined)
      expect(Buffer.byteLength(logged.stdout)).toBe(expected.stdoutBytes)
    // Of the two streams nobody knows which was first.
    if (expected.logSteps !== undefined) expect(new Set(logged.steps)).toEqual(new Set(expected.logSteps))
    if (result.container) expect(result.container.strategy).toBe(strategy)
    return result
  }
})
