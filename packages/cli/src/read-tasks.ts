import { readFile } from 'node:fs/promises'
import { CliError } from './errors.js'
import type { Io } from './output.js'

/**
 * Reads a file, or stdin for `-`.
 *
 * @throws CliError when it can't be read
 */
async function readSource(source: string, io: Io): Promise<string> {
  if (source === '-') return readAll(io.stdin)
  try {
    return await readFile(source, 'utf8')
  } catch (error) {
    throw new CliError(`${source} can't be read; ${(error as Error).message}; check the name`)
  }
}

/** The one task of a file. @throws CliError when it is no JSON */
export async function readTask(source: string, io: Io): Promise<unknown> {
  const text = await readSource(source, io)
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw notJson(nameOf(source), error)
  }
}

/** The tasks of a file: one JSON value, or one a line (NDJSON). @throws CliError naming the line that is no JSON */
export async function readTasks(source: string, io: Io): Promise<unknown[]> {
  const text = await readSource(source, io)
  try {
    return [JSON.parse(text) as unknown]
  } catch (error) {
    const lines = text.split('\n')
    // When not even the first line is a value of its own, this is one broken JSON text and no NDJSON.
    if (!isJson(lines.find(line => line.trim() !== '') ?? '')) throw notJson(nameOf(source), error)
    return lines.flatMap((line, i) => readLine(line, `${nameOf(source)}:${i + 1}`))
  }
}

function readLine(line: string, where: string): unknown[] {
  if (line.trim() === '') return []
  try {
    return [JSON.parse(line) as unknown]
  } catch (error) {
    throw notJson(where, error)
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function notJson(where: string, error: unknown): CliError {
  return new CliError(`${where} holds no task; it is no JSON: ${(error as Error).message}; correct it`)
}

function nameOf(source: string): string {
  return source === '-' ? 'stdin' : source
}

async function readAll(stream: AsyncIterable<Uint8Array | string>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array))
  return Buffer.concat(chunks).toString('utf8')
}
