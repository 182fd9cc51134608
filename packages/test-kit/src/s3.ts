import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { S3Client } from '@aws-sdk/client-s3'

/** OpenStack Swift with its S3 interface, on a free port of 127.0.0.1: it checks signatures as any S3 does. */
export interface TestS3 {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** A bucket that is there from the start. */
  readonly bucket: string
  /** The keys of all objects, in order. */
  keys(): Promise<string[]>
  read(key: string): Promise<Buffer>
  write(key: string, bytes: Uint8Array): Promise<void>
  delete(key: string): Promise<void>
  /** Keys of uploads in parts that were begun and not ended. */
  unfinished(): Promise<string[]>
  /** Ends it as a crash would; what it stored is kept. */
  kill(): Promise<void>
  /** Starts it again at the same address, with what it held. */
  resume(): Promise<void>
  stop(): Promise<void>
}

/** Debian's own, because its libraries belong to that and to no other. */
const PYTHON = '/usr/bin/python3'
const PROGRAM = fileURLToPath(new URL('../swift/serve.py', import.meta.url))
const USER = 'test:tester'

/** @throws Error with the server's own words when it does not start */
export async function startS3(): Promise<TestS3> {
  const folder = await mkdtemp(join(tmpdir(), 'agirunner-s3-'))
  const secretAccessKey = `s3-Key+${randomBytes(12).toString('base64')}`
  const start = (port: number) => launch(folder, port, { [USER]: secretAccessKey })
  let running: Running | null = await start(0)
  const { port } = running
  const endpoint = `http://127.0.0.1:${port}`
  // Loaded here, because most tests have no use for it.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'
  const sdk = await import('@aws-sdk/client-s3')
  const client = new sdk.S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: USER, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
  const at = { Bucket: 'left-by-tasks' }
  const kill = async () => {
    const { child } = running ?? {}
    running = null
    if (!child) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  await client.send(new sdk.CreateBucketCommand(at))
  return {
    endpoint,
    accessKeyId: USER,
    secretAccessKey,
    bucket: at.Bucket,
    keys: () => keysIn(client, sdk, at),
    read: async Key => {
      const { Body } = await client.send(new sdk.GetObjectCommand({ ...at, Key }))
      return Buffer.from((await Body?.transformToByteArray()) ?? [])
    },
    write: async (Key, Body) => void (await client.send(new sdk.PutObjectCommand({ ...at, Key, Body }))),
    delete: async Key => void (await client.send(new sdk.DeleteObjectCommand({ ...at, Key }))),
    unfinished: async () => {
      const { Uploads = [] } = await client.send(new sdk.ListMultipartUploadsCommand(at))
      return Uploads.map(({ Key = '' }) => Key)
    },
    kill,
    resume: async () => {
      running ??= await start(port)
    },
    stop: async () => {
      await kill()
      client.destroy()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

type Sdk = typeof import('@aws-sdk/client-s3')

async function keysIn(client: S3Client, sdk: Sdk, at: { Bucket: string }): Promise<string[]> {
  const keys: string[] = []
  for (;;) {
    const page = await client.send(new sdk.ListObjectsV2Command({ ...at, StartAfter: keys.at(-1) }))
    keys.push(...(page.Contents ?? []).map(({ Key = '' }) => Key))
    if (!page.IsTruncated) return keys
  }
}

interface Running {
  readonly child: ChildProcess
  readonly port: number
}

async function launch(folder: string, port: number, users: Record<string, string>): Promise<Running> {
  const args = [PROGRAM, folder, String(port), JSON.stringify({ users })]
  const child = spawn(PYTHON, args, {
    env: { PATH: '/usr/bin:/bin', LANG: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-10_000)
  })
  await once(child, 'spawn')
  for await (const chunk of child.stdout) return { child, port: Number(String(chunk)) }
  throw new Error(
    `the S3 server ended before it was ready; is the package python3-swift there? \`npm test\` installs it\n${said}`,
  )
}
