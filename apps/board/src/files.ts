import { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { Producer } from '@agirunner/producer'
import { TextRedactor } from './redact-stream.js'

/** A line that is longer is looked at in parts. */
const LONGEST_LINE = 256 * 1024

/** The patch of a task as it may be shown. @throws PatchUnavailableError, before anything is sent if it can be known */
export async function patchText(producer: Producer, taskId: string): Promise<Readable> {
  return Readable.from(redacted(await begun(producer.patch(taskId))), { objectMode: false })
}

/** The bytes of an artifact. @throws ArtifactUnavailableError, before anything is sent if it can be known */
export async function artifactBytes(producer: Producer, taskId: string, path: string): Promise<Readable> {
  return Readable.from(await begun(producer.artifact(taskId, path)), { objectMode: false })
}

/** Reads the first piece, so that a failure can still become a status. */
async function begun(bytes: AsyncIterable<Buffer>): Promise<AsyncIterable<Buffer>> {
  const iterator = bytes[Symbol.asyncIterator]()
  const first = await iterator.next()
  return (async function* () {
    try {
      for (let next = first; !next.done; next = await iterator.next()) yield next.value
    } finally {
      await iterator.return?.()
    }
  })()
}

async function* redacted(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8')
  const redactor = new TextRedactor()
  let rest = ''
  for await (const piece of bytes) {
    rest += decoder.write(piece)
    const end = rest.length > LONGEST_LINE ? rest.length : rest.lastIndexOf('\n') + 1
    if (end > 0) yield redactor.redact(rest.slice(0, end))
    rest = rest.slice(end)
  }
  yield redactor.redact(rest + decoder.end())
}

/**
 * A `content-disposition` that makes a browser save a file under the last part of its path (RFC 6266).
 *
 * @example attachment('output/ünï.txt') // `attachment; filename="_n_.txt"; filename*=UTF-8''%C3%BCn%C3%AF.txt`
 */
export function attachment(path: string): string {
  const name = path.split('/').at(-1) || 'artifact'
  const plain = name.replace(/[^A-Za-z0-9._-]/g, '_')
  const exact = encodeURIComponent(name.replace(/\p{Surrogate}/gu, '_')).replace(
    /['()*!]/g,
    character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`
}
