import { constants, open } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'

/** The largest result.json that is carried in a result, in bytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024

/** What a task said in output/result.json: its JSON, null when there is none, or the failure that it is. */
export type Output =
  | { readonly value: unknown; readonly failure: null }
  | { readonly value: null; readonly failure: TaskFailure }

/** Reads output/result.json as data: no link is followed, nothing but a plain file is opened. */
export async function readOutput(folder: string): Promise<Output> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(join(folder, 'result.json'), flags)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return { value: null, failure: null }
    return invalid(code === 'ELOOP' ? 'it is a symbolic link' : `it can't be read (${code})`)
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) return invalid('it is no plain file')
    if (stat.size > MAX_OUTPUT_BYTES) return invalid(`it is larger than ${MAX_OUTPUT_BYTES} bytes`)
    return { value: JSON.parse(await file.readFile('utf8')) as unknown, failure: null }
  } catch (error) {
    return invalid((error as Error).message)
  } finally {
    await file.close()
  }
}

function invalid(why: string): Output {
  return {
    value: null,
    failure: new TaskFailure('task.output_invalid', `output/result.json is not usable: ${why}`, {
      phase: 'capture',
    }),
  }
}
