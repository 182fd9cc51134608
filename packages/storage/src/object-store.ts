import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { Budget } from './budget.js'
import { explain, StorageError } from './errors.js'
import { openSdk, type Sdk } from './sdk.js'
import type { S3Settings } from './settings.js'

/** A file that is to be an object. */
export interface PutFile {
  readonly path: string
  /** What it must be, in hexadecimal digits; null where nobody knows. */
  readonly sha256: string | null
}

const MIB = 1024 * 1024
/** The least that S3 takes for a part that is not the last. */
const PART_BYTES = 5 * MIB
/** OpenStack Swift takes 1,000 parts by default; AWS takes 10,000. */
const MAX_PARTS = 1000
/** Parts of one file that are under way at the same time. */
const PARTS_AT_ONCE = 2
/** What parts under way may hold in memory, over all files of all tasks. */
const MEMORY_BYTES = 48 * MIB
/** What one file counts at least: so a thousand small ones don't open a thousand connections. */
const LEAST_BYTES = 4 * MIB
/** So often a download that breaks is taken up where it broke. */
const RESUMES = 3

/**
 * One bucket of an S3-compatible server, or what lies below a prefix in it. Keys are relative to the prefix. Every failure
 * is a StorageError, after the SDK's own bounded retries. Nothing is connected, or even loaded, before the first call.
 */
export class ObjectStore {
  readonly #settings: S3Settings
  readonly #memory = new Budget(MEMORY_BYTES)
  #sdk: Promise<Sdk> | null = null

  constructor(settings: S3Settings) {
    this.#settings = settings
  }

  /** `s3://bucket/prefix…`: of a key, or of everything. */
  uriOf(key = ''): string {
    const { bucket, prefix } = this.#settings
    return `s3://${bucket}/${prefix}${key}`
  }

  /** Where it is, for a person. */
  describe(): string {
    const { endpoint, region } = this.#settings
    return `${this.uriOf()} at ${endpoint ?? `AWS, ${region}`}`
  }

  /**
   * The key that a URI names, if it is of something below `folder` in this very bucket.
   *
   * @param folder with a `/` at its end
   * @returns null for everything else: a URI leads nowhere but to where it may lead
   */
  keyOf(uri: string, folder: string): string | null {
    const own = this.uriOf(folder)
    if (!uri.startsWith(own)) return null
    const names = uri.slice(own.length).split('/')
    const isPlain = names.every(name => /^[A-Za-z0-9._-]+$/.test(name) && name !== '.' && name !== '..')
    return isPlain ? folder + names.join('/') : null
  }

  /**
   * Streams a file into an object, in parts where it is large. The object is there in whole or not at all.
   *
   * @returns its size in bytes
   * @throws StorageError; `damaged` too when the file is not what it should be
   */
  async put(key: string, file: PutFile, signal?: AbortSignal): Promise<number> {
    const { size } = await stat(file.path)
    const partSize = Math.max(PART_BYTES, Math.ceil(size / MAX_PARTS))
    const held = Math.max(LEAST_BYTES, Math.min(size, partSize * PARTS_AT_ONCE))
    return await this.#memory.with(held, () => this.#upload(key, file, partSize, signal))
  }

  /** Writes a small object at once. @throws StorageError */
  async write(key: string, text: string): Promise<void> {
    await this.#try(`${this.uriOf(key)} can't be written`, ({ client, library }) =>
      client.send(new library.PutObjectCommand({ ...this.#at(key), Body: Buffer.from(text) })),
    )
  }

  /**
   * The bytes of an object. A connection that breaks is taken up where it broke, a few times.
   *
   * @throws (from `next`) StorageError
   */
  async *read(key: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const what = `${this.uriOf(key)} can't be read`
    let done = 0
    let etag: string | undefined
    for (let resumes = 0; ; resumes += 1) {
      const got = await this.#try(what, ({ client, library }) =>
        client.send(
          new library.GetObjectCommand({
            ...this.#at(key),
            ...(done > 0 && { Range: `bytes=${done}-`, IfMatch: etag }),
          }),
          { ...(signal && { abortSignal: signal }) },
        ),
      )
      etag = got.ETag
      const total = done + (got.ContentLength ?? 0)
      try {
        for await (const chunk of got.Body as Readable) {
          done += (chunk as Buffer).length
          yield chunk as Buffer
        }
        if (done >= total) return
      } catch (error) {
        signal?.throwIfAborted()
        if (resumes >= RESUMES) throw explain(error, what)
      }
      if (resumes >= RESUMES)
        throw new StorageError('unreachable', `${what}; the connection ended early each time`)
    }
  }

  /** Keys below a prefix, in order, as they are asked for. @throws (from `next`) StorageError */
  async *list(below: string): AsyncGenerator<string> {
    const { bucket: Bucket, prefix } = this.#settings
    let after: string | undefined
    for (;;) {
      const page = await this.#try(`${this.uriOf(below)} can't be listed`, ({ client, library }) =>
        client.send(new library.ListObjectsV2Command({ Bucket, Prefix: prefix + below, StartAfter: after })),
      )
      for (const { Key } of page.Contents ?? []) {
        if (Key === undefined) continue
        after = Key
        yield Key.slice(prefix.length)
      }
      if (!page.IsTruncated || (page.Contents ?? []).length === 0) return
    }
  }

  /** Deletes an object; one that is not there is deleted too. @throws StorageError */
  async delete(key: string): Promise<void> {
    await this.#try(`${this.uriOf(key)} can't be deleted`, ({ client, library }) =>
      client.send(new library.DeleteObjectCommand(this.#at(key))),
    )
  }

  /**
   * Gives up uploads below a prefix that somebody began and will not end; their parts take room and no listing shows them.
   *
   * @throws StorageError
   */
  async abortUploads(below: string): Promise<void> {
    const { bucket: Bucket, prefix } = this.#settings
    const what = `unfinished uploads of ${this.uriOf(below)} can't be given up`
    await this.#try(what, async ({ client, library }) => {
      const listed = new library.ListMultipartUploadsCommand({ Bucket, Prefix: prefix + below })
      for (const { Key, UploadId } of (await client.send(listed)).Uploads ?? [])
        await client.send(new library.AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
    })
  }

  /** Whether the bucket can be written to, read, listed and cleaned. @throws StorageError */
  async check(name: string): Promise<void> {
    const key = `_check/${name}`
    await this.write(key, 'written by a worker to see that it can\n')
    for await (const _ of this.read(key)) break
    for await (const _ of this.list('_check/')) break
    await this.delete(key)
  }

  /** Closes its connections. */
  async close(): Promise<void> {
    const sdk = this.#sdk
    this.#sdk = null
    const opened = await sdk?.catch(() => null)
    opened?.client.destroy()
  }

  async #upload(key: string, file: PutFile, partSize: number, signal?: AbortSignal): Promise<number> {
    const what = `${this.uriOf(key)} can't be stored`
    let size = 0
    const counted = async function* (): AsyncGenerator<Buffer> {
      const hash = createHash('sha256')
      for await (const chunk of createReadStream(file.path, { highWaterMark: MIB })) {
        hash.update(chunk as Buffer)
        size += (chunk as Buffer).length
        yield chunk as Buffer
      }
      // Before the last part goes out: so the object never comes to be.
      if (file.sha256 !== null && hash.digest('hex') !== file.sha256)
        throw new StorageError('damaged', `${what}; the file is not what was captured (its SHA-256 differs)`)
    }
    return await this.#try(what, async ({ client, library }) => {
      signal?.throwIfAborted()
      const body = Readable.from(counted(), { objectMode: false })
      const upload = new library.Upload({
        client,
        params: { ...this.#at(key), Body: body },
        partSize,
        queueSize: PARTS_AT_ONCE,
        leavePartsOnError: false,
      })
      const abort = () => void upload.abort()
      signal?.addEventListener('abort', abort, { once: true })
      try {
        await upload.done()
        await this.#sameSize(key, size, { client, library })
        return size
      } finally {
        signal?.removeEventListener('abort', abort)
        body.destroy()
      }
    }).catch((error: unknown) => {
      signal?.throwIfAborted()
      throw error
    })
  }

  /** Each part was compared by its sum; that all of them are there is the one thing left. */
  async #sameSize(key: string, size: number, { client, library }: Sdk): Promise<void> {
    if (size < PART_BYTES) return
    const { ContentLength } = await client.send(new library.HeadObjectCommand(this.#at(key)))
    if (ContentLength === size) return
    throw new StorageError(
      'damaged',
      `${this.uriOf(key)} can't be stored; the server has ${ContentLength} bytes of ${size}`,
    )
  }

  #at(key: string): { Bucket: string; Key: string } {
    const { bucket, prefix } = this.#settings
    return { Bucket: bucket, Key: prefix + key }
  }

  async #try<T>(what: string, use: (sdk: Sdk) => Promise<T>): Promise<T> {
    try {
      this.#sdk ??= openSdk(this.#settings)
      return await use(await this.#sdk)
    } catch (error) {
      throw explain(error, what)
    }
  }
}
