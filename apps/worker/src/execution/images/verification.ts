import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { z } from 'zod'
import type { ContainerEngine, ContainerSpec, EngineInfo, ImageInfo } from '../../engine/engine.js'
import { labelsOf, type Owner } from '../../engine/labels.js'
import { SharedWork } from '../../support/shared-work.js'
import { HELPER } from '../../workspace/helper-container.js'
import { volumeTmpfs } from './fit.js'
import { VERIFICATION_SCRIPT } from './verification-script.js'

const VERIFY_MS = 60_000
/** What is read of a container's output; an image is free to print without end. In bytes. */
const MAX_OUTPUT = 64 * 1024
const MAX_TEXT = 200
/** A change of what is asked makes what was found before worthless. */
const VERSION = 1

const FactsSchema = z.object({
  version: z.literal(VERSION),
  id: z.string(),
  platform: z.string(),
  /** Of what a bootstrap may count on; `sh` when nothing could be run at all. */
  missing: z.array(z.string()),
  /** Why nothing could be run; null when something could. */
  problem: z.string().nullable(),
  distro: z.string().nullable(),
  packageManager: z.string().nullable(),
  libc: z.string().nullable(),
  /** As `id` tells it for the user that tasks of profile `user` run as. */
  user: z.string().nullable(),
  certificates: z.boolean(),
  /** Versions as the programs tell them. */
  runtimes: z.record(z.string(), z.string()),
  /** Paths that the image declares as volumes; containers have memory there. */
  volumes: z.array(z.string()),
  /** False when the time was up before everything was asked. */
  complete: z.boolean(),
})
/** What was found in an image by running it. All texts are the image's own words, cut and printable. */
export type ImageFacts = z.output<typeof FactsSchema>

export interface VerificationOptions {
  readonly engine: ContainerEngine
  readonly info: EngineInfo
  readonly owner: Owner
  readonly dataDir: string
  /** How long one image may take, in milliseconds. */
  readonly deadlineMs?: number
}

/**
 * Finds out what an image holds by running a container of it: without network, as the user of tasks, with limits. Once for
 * each image, because what an id stands for never changes.
 */
export class Verification {
  readonly #options: VerificationOptions
  readonly #known = new Map<string, ImageFacts>()
  readonly #running = new SharedWork<ImageFacts>()

  constructor(options: VerificationOptions) {
    this.#options = options
  }

  /**
   * @throws TaskFailure `image.incompatible` when it can't run what a bootstrap is made of, or nothing at all;
   *   `container.*`, `engine.unavailable`, or the signal's reason
   */
  async require(reference: string, image: ImageInfo, signal: AbortSignal): Promise<void> {
    const facts = await this.facts(image, signal)
    if (facts.missing.length === 0) return
    const { platform } = this.#options.info
    const other =
      image.platform === platform ? '' : `; it is made for ${image.platform}, and this machine is ${platform}`
    const why = facts.problem ?? `it lacks ${facts.missing.join(', ')}`
    throw new TaskFailure('image.incompatible', `image "${reference}" can't run tasks: ${why}${other}`)
  }

  /** @throws TaskFailure as `require`, but for what the image lacks */
  async facts(image: ImageInfo, signal: AbortSignal): Promise<ImageFacts> {
    const known = this.#known.get(image.id) ?? (await this.#read(image.id))
    if (known) return known
    const share = { signal, progress: () => undefined }
    const facts = await this.#running.join(image.id, inner => this.#run(image, inner.signal), share)
    this.#known.set(image.id, facts)
    // A busy machine may be why it is not whole: the next worker asks again.
    if (facts.complete || facts.problem !== null) await this.#write(facts)
    return facts
  }

  async #run(image: ImageInfo, signal: AbortSignal): Promise<ImageFacts> {
    const { engine } = this.#options
    const late = AbortSignal.timeout(this.#options.deadlineMs ?? VERIFY_MS)
    const id = await engine.create(this.#spec(image))
    try {
      const output = await readOutput(engine, id, AbortSignal.any([signal, late]))
      return toFacts(image, output)
    } catch (error) {
      signal.throwIfAborted()
      if (!late.aborted && error instanceof TaskFailure && error.code === 'image.incompatible')
        return toFacts(image, { stdout: '', stderr: error.message, exitCode: null })
      throw error
    } finally {
      await engine.remove(id)
    }
  }

  #spec(image: ImageInfo): ContainerSpec {
    const { owner, info } = this.#options
    const slot = `verify-${randomUUID().slice(0, 8)}`
    const bytes = 16 * 2 ** 20
    return {
      ...HELPER,
      name: `agirunner-${slot}`,
      image: image.id,
      command: ['/bin/sh', '-c', VERIFICATION_SCRIPT],
      labels: labelsOf(owner, 'helper', slot, image.id),
      user: '10001:10001',
      readOnlyRoot: true,
      mounts: [],
      tmpfs: { ...volumeTmpfs(image, bytes), '/tmp': `rw,exec,nosuid,nodev,mode=1777,size=${bytes}` },
      // Some runtimes start dozens of threads before they tell their version.
      cpus: Math.min(1, info.cpus),
      memoryBytes: 512 * 2 ** 20,
      pids: 128,
    }
  }

  #fileOf(id: string): string {
    const name = createHash('sha256').update(id).digest('hex').slice(0, 32)
    return join(this.#options.dataDir, 'images', 'verified', `${name}.json`)
  }

  async #read(id: string): Promise<ImageFacts | null> {
    try {
      const facts = FactsSchema.parse(JSON.parse(await readFile(this.#fileOf(id), 'utf8')))
      this.#known.set(id, facts)
      return facts
    } catch {
      // Not there, of another version or broken: it is found out again.
      return null
    }
  }

  async #write(facts: ImageFacts): Promise<void> {
    const file = this.#fileOf(facts.id)
    const aside = `${file}.${randomUUID()}`
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    await writeFile(aside, JSON.stringify(facts), { mode: 0o600 })
    await rename(aside, file)
  }
}

interface Output {
  readonly stdout: string
  readonly stderr: string
  /** Null when the time was up, or nothing was started. */
  readonly exitCode: number | null
}

/**
 * Starts the container and reads what it prints until it ends or the signal aborts.
 *
 * @throws TaskFailure `image.incompatible` when its shell said nothing at all in that time
 */
async function readOutput(engine: ContainerEngine, id: string, signal: AbortSignal): Promise<Output> {
  const texts = { stdout: '', stderr: '' }
  const runs = await engine.attach(id, signal)
  await engine.start(id)
  try {
    for await (const { stream, bytes } of runs) {
      const room = MAX_OUTPUT - texts[stream].length
      if (room > 0) texts[stream] += bytes.toString('latin1').slice(0, room)
      else if (texts.stdout.length >= MAX_OUTPUT) break
    }
    if (texts.stdout.length >= MAX_OUTPUT) return { ...texts, exitCode: null }
    const { exitCode } = await engine.exit(id, signal)
    return { ...texts, exitCode }
  } catch (error) {
    if (!signal.aborted) throw error
    if (texts.stdout.includes('checked\n')) return { ...texts, exitCode: null }
    throw new TaskFailure('image.incompatible', 'its /bin/sh did not say in time what the image holds')
  }
}

function toFacts(image: ImageInfo, { stdout, stderr, exitCode }: Output): ImageFacts {
  const lines = stdout.split('\n').map(printable)
  const all = (key: string) =>
    lines.filter(line => line.startsWith(`${key} `)).map(line => line.slice(key.length + 1))
  const checked = lines.includes('checked')
  const os = new Map(all('os').map(line => splitAt(line, '=')))
  return {
    version: VERSION,
    id: image.id,
    platform: image.platform,
    missing: checked ? all('missing') : ['sh'],
    problem: checked ? null : problemOf(stderr, exitCode),
    distro: unquoted(os.get('PRETTY_NAME') ?? os.get('ID')),
    packageManager: all('manager')[0] ?? null,
    libc: all('libc').find(text => text !== '') ?? null,
    user: all('user')[0] ?? null,
    certificates: lines.includes('certificates'),
    runtimes: Object.fromEntries(all('runtime').map(line => splitAt(line, ' '))),
    volumes: [...image.volumes],
    complete: lines.includes('end'),
  }
}

function problemOf(stderr: string, exitCode: number | null): string {
  const said = printable(stderr.split('\n').find(line => line.trim() !== '') ?? '')
  const end = exitCode === null ? '' : ` (exit code ${exitCode})`
  return `it has no /bin/sh that runs${end}${said === '' ? '' : `: ${said}`}`
}

function splitAt(line: string, separator: string): [string, string] {
  const at = line.indexOf(separator)
  return at === -1 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)]
}

function unquoted(text: string | undefined): string | null {
  const plain = text?.replaceAll(/^["']|["']$/g, '')
  return plain ? plain : null
}

/** What an image prints goes to a person's terminal and into messages. */
function printable(line: string): string {
  return line
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .trim()
    .slice(0, MAX_TEXT)
}
