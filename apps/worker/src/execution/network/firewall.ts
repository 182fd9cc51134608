import { createHash } from 'node:crypto'
import type { Owner } from '../../engine/labels.js'
import { isAlive } from '../../support/identity.js'
import { ENGINE_CHAIN, engineIptables, type Iptables } from './iptables.js'
import { type RuleInput, type RuleSet, rulesV4, rulesV6 } from './rules.js'

/** Where our chains are entered from: before all rules of others. */
const HOOKS_V4 = ['INPUT', ENGINE_CHAIN, 'FORWARD']
const HOOKS_V6 = ['INPUT', 'FORWARD']
const MAX_WRITES = 5
const CHAINS = ['IN', 'FWD', 'TO'] as const
/** Precedes the host and the worker in the comment of each jump, by which a reaper knows whose it is. */
const MARK = 'agirunner:'

/** The filter table of one IP version, and where our chains are entered from. */
interface Table {
  readonly table: Iptables
  readonly hooks: readonly string[]
  readonly v6: boolean
}

/** A short name for all that one worker makes of networks; an interface's name holds 15 characters. */
export function networkTag({ worker, host }: Owner): string {
  return createHash('sha256').update(`${host} ${worker}`).digest('hex').slice(0, 6)
}

/** What the names of a worker's bridges begin with. */
export function bridgePrefix(tag: string): string {
  return `agr${tag}`
}

/**
 * The rules of one worker. They hold for whatever bridge bears the worker's prefix, and are there before such a bridge is.
 * Workers share no chain, so that none can take away what another needs.
 */
export class Firewall {
  readonly #tables: readonly Table[]
  readonly #tag: string
  readonly #comment: string
  readonly variant: string
  /** What the kernel said that our chains hold, just after they were written. */
  readonly #written = new Map<Iptables, string>()
  #input: Omit<RuleInput, 'prefix'> | null = null
  #work: Promise<unknown> = Promise.resolve()

  private constructor(tables: { v4: Iptables; v6: Iptables; variant: string }, owner: Owner) {
    this.#tables = [
      { table: tables.v4, hooks: HOOKS_V4, v6: false },
      { table: tables.v6, hooks: HOOKS_V6, v6: true },
    ]
    this.variant = tables.variant
    this.#tag = networkTag(owner)
    this.#comment = `${MARK}${owner.host}:${owner.worker}`
  }

  /** @throws Error that says why this machine's rules can't be changed */
  static async open(owner: Owner): Promise<Firewall> {
    return new Firewall(await engineIptables(), owner)
  }

  /** Whether no rules were written yet. */
  get empty(): boolean {
    return this.#input === null
  }

  /** Puts these rules in force, in place of those before, in one step: at no time is there a gap. */
  async apply(input: Omit<RuleInput, 'prefix'>): Promise<void> {
    await this.#alone(async () => {
      this.#input = input
      for (const one of this.#tables) await this.#write(one)
    })
  }

  /**
   * Looks whether the rules are in force, and puts them back where an administrator, another program or a restarted
   * engine took them away.
   *
   * @returns whether something was missing
   */
  async check(): Promise<boolean> {
    return await this.#alone(async () => {
      const missing = await Promise.all(
        this.#tables.map(async one => ({ one, missing: !this.#isInForce(await one.table.list(), one) })),
      )
      for (const { one } of missing.filter(found => found.missing)) await this.#write(one)
      return missing.some(found => found.missing)
    })
  }

  /** Takes all of this worker's rules away. */
  async remove(): Promise<void> {
    await this.#alone(async () => {
      this.#input = null
      for (const { table } of this.#tables) await removeTag(table, this.#tag)
    })
  }

  /**
   * Removes the rules of dead workers of this machine, unless a network of theirs is still there.
   *
   * @param bridges names of the interfaces that are there
   * @returns how many workers' rules went
   */
  async sweep(bridges: readonly string[], host: string): Promise<number> {
    return await this.#alone(async () => {
      const removed = new Set<string>()
      for (const { table } of this.#tables) {
        for (const tag of deadTags(await table.list(), host)) {
          if (bridges.some(bridge => bridge.startsWith(bridgePrefix(tag)))) continue
          await removeTag(table, tag)
          removed.add(tag)
        }
      }
      return removed.size
    })
  }

  /** Others change the same table, and may put a rule before ours just after they were written. */
  async #write(table: Table): Promise<void> {
    for (let tries = 0; tries < MAX_WRITES; tries += 1) {
      if (this.#input === null || (await this.#writeOnce(table, this.#input))) return
    }
    throw new Error('another program puts its rules before those of task networks, again and again')
  }

  /** @returns whether they were in force afterwards */
  async #writeOnce({ table, hooks, v6 }: Table, input: Omit<RuleInput, 'prefix'>): Promise<boolean> {
    const prefix = bridgePrefix(this.#tag)
    const rules: RuleSet = v6 ? rulesV6() : rulesV4({ ...input, prefix })
    const before = await table.list()
    await table.change([
      ...CHAINS.map(chain => `:${this.#chain(chain)} - [0:0]`),
      ...CHAINS.flatMap(chain => rules[chain].map(rule => `-A ${this.#chain(chain)} ${rule}`)),
      ...hooks.flatMap(hook => this.#hookUp(before, hook)),
    ])
    const after = await table.list()
    this.#written.set(table, chainsOf(after, this.#tag))
    return this.#isInForce(after, { table, hooks, v6 })
  }

  /** The jumps of one hook are brought to its front. */
  #hookUp(lines: readonly string[], hook: string): string[] {
    if (this.#isHooked(lines, hook)) return []
    const old = lines.filter(line => line.startsWith(`-A ${hook} `) && tagOf(line) === this.#tag)
    return [
      ...old.map(line => line.replace('-A', '-D')),
      ...this.#jumps(hook).map(jump => `-I ${hook} 1 ${jump}`),
    ]
  }

  #jumps(hook: string): string[] {
    const prefix = bridgePrefix(this.#tag)
    const to = (match: string, chain: (typeof CHAINS)[number]) =>
      `${match} ${prefix}+ -m comment --comment "${this.#comment}" -j ${this.#chain(chain)}`
    return hook === 'INPUT' ? [to('-i', 'IN')] : [to('-i', 'FWD'), to('-o', 'TO')]
  }

  #isInForce(lines: readonly string[], { table, hooks }: Table): boolean {
    const written = this.#written.get(table)
    return chainsOf(lines, this.#tag) === written && hooks.every(hook => this.#isHooked(lines, hook))
  }

  /** Only jumps of other workers, and to the engine's chain that has ours in front, may come before. */
  #isHooked(lines: readonly string[], hook: string): boolean {
    const rules = lines.filter(line => line.startsWith(`-A ${hook} `))
    const theirs = rules.findIndex(line => tagOf(line) === null && !line.endsWith(`-j ${ENGINE_CHAIN}`))
    const front = theirs === -1 ? rules : rules.slice(0, theirs)
    const ours = front.filter(line => tagOf(line) === this.#tag)
    return ours.length === this.#jumps(hook).length
  }

  #chain(chain: (typeof CHAINS)[number]): string {
    return chainName(this.#tag, chain)
  }

  /** One change at a time, whatever became of the one before. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#work.then(work, work)
    this.#work = next.catch(() => undefined)
    return next
  }
}

function chainName(tag: string, chain: (typeof CHAINS)[number]): string {
  return `AGIRUNNER-${tag}-${chain}`
}

/** The tag of the worker that a jump leads to; null for rules of others. */
function tagOf(line: string): string | null {
  return / -j AGIRUNNER-([0-9a-f]{6})-(?:IN|FWD|TO)$/.exec(line)?.[1] ?? null
}

function chainsOf(lines: readonly string[], tag: string): string {
  return lines.filter(line => line.startsWith(`-A AGIRUNNER-${tag}-`)).join('\n')
}

async function removeTag(table: Iptables, tag: string): Promise<void> {
  const lines = await table.list()
  const jumps = lines.filter(line => line.startsWith('-A ') && tagOf(line) === tag)
  const chains = lines.flatMap(line => new RegExp(`^-N (AGIRUNNER-${tag}-\\w+)$`).exec(line)?.[1] ?? [])
  if (jumps.length + chains.length === 0) return
  await table.change([
    ...jumps.map(line => line.replace('-A', '-D')),
    ...chains.map(chain => `-F ${chain}`),
    ...chains.map(chain => `-X ${chain}`),
  ])
}

/** Tags of workers of this machine whose process is gone. */
function deadTags(lines: readonly string[], host: string): string[] {
  const tags = lines.flatMap(line => {
    const owner = new RegExp(`--comment "?${MARK}([^:"\\s]+):([^"\\s]+)"? `).exec(line)
    const tag = tagOf(line)
    return tag !== null && owner?.[1] === host && !isAlive(owner[2] ?? '') ? [tag] : []
  })
  return [...new Set(tags)]
}
