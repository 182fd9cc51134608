import { constants, open } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { checkOutput } from './output-check.js'

/** The largest result.json that is carried in a result, in bytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024
/** JSON that is nested deeper can be read, but not written again: that takes a stack. */
const MAX_OUTPUT_DEPTH = 500

/** What a task said in output/result.json: its JSON, null when there is none; and the failure that it is, if it is. */
export interface Output {
  readonly value: unknown
  readonly failure: TaskFailure | null
}

export interface OutputOptions {
  /** The task's output folder. */
  readonly folder: string
  /** `capture.outputSchema`. */
  readonly schema: Readonly<Record<string, unknown>> | null
  readonly signal: AbortSignal
}

/**
 * Reads output/result.json as data: no link is followed, nothing but a plain file is opened. Output that is JSON and not
 * as the schema says is both told and a failure.
 */
export async function readOutput({ folder, schema, signal }: OutputOptions): Promise<Output> {
  const read = await readJson(join(folder, 'result.json'))
  if (read === null) return absent(schema)
  if ('unusable' in read) return { value: null, failure: invalid(read.unusable) }
  const failure = schema === null ? null : await checkOutput({ schema, value: read.value }, signal)
  return { value: read.value, failure }
}

/** A task need not write one, unless it was told how it must look. */
function absent(schema: OutputOptions['schema']): Output {
  return {
    value: null,
    failure: schema === null ? null : invalid('it is missing, and capture.outputSchema asks for it'),
  }
}

/** Null when there is no file. */
async function readJson(path: string): Promise<{ value: unknown } | { unusable: string } | null> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, flags)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    return { unusable: code === 'ELOOP' ? 'it is a symbolic link' : `it can't be read (${code})` }
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) return { unusable: 'it is no plain file' }
    if (stat.size > MAX_OUTPUT_BYTES) return { unusable: `it is larger than ${MAX_OUTPUT_BYTES} bytes` }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.readFile())
    const value: unknown = JSON.parse(text)
    if (isDeeperThan(MAX_OUTPUT_DEPTH, value))
      return { unusable: `it is nested deeper than ${MAX_OUTPUT_DEPTH} levels` }
    return { value }
  } catch (error) {
    return { unusable: (error as Error).message }
  } finally {
    await file.close()
  }
}

function isDeeperThan(depth: number, value: unknown): boolean {
  let level: unknown[] = [value]
  for (let reached = 0; level.length > 0; reached += 1) {
    if (reached > depth) return true
    level = level.flatMap(one => (typeof one === 'object' && one !== null ? Object.values(one) : []))
  }
  return false
}

function invalid(why: string): TaskFailure {
  return new TaskFailure('task.output_invalid', `output/result.json is not usable: ${why}`, {
    phase: 'capture',
  })
}
