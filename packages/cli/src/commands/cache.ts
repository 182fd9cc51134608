import { Cache, type CacheItem } from '@agirunner/cache'
import { formatSize, parseSize } from '@agirunner/contracts'
import { type Call, type Command, JSON_OPTION } from '../command.js'
import { CliError, EXIT } from '../errors.js'
import { showDuration, table } from '../output.js'
import { cacheBytesOf } from '../settings.js'

export const cache: Command = {
  usage: 'cache ls | rm ID… | prune [--to SIZE] [--json]',
  summary: 'shows and clears what is kept of repositories on this machine',
  details:
    '`ls` lists repositories (what was fetched) and snapshots (what was checked out), the last used first. `rm` removes\n' +
    'some, `prune` those that were not used for longest until SIZE is kept (default AGIRUNNER_CACHE_BYTES; 0 removes all).\n' +
    'What a task uses now stays; `rm` then exits with 1. Workers may run meanwhile.',
  options: {
    to: { type: 'string', value: 'SIZE', help: 'what may stay, such as "5Gi"' },
    json: { ...JSON_OPTION, help: 'print one JSON object a line' },
  },
  takes: { min: 1, max: 1000, name: '"ls", "rm" or "prune"' },
  async run(call) {
    const [action = '', ...ids] = call.positionals
    const run = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined
    if (!run) {
      throw new CliError(`\`agirunner cache ${action}\` can't be done; it is not known; use ls, rm or prune`)
    }
    if (action !== 'rm' && ids.length > 0) {
      throw new CliError(`\`agirunner cache ${action}\` takes no ${JSON.stringify(ids[0])}; leave it out`)
    }
    return await run(call, new Cache(call.settings.dataDir), ids)
  },
}

type Action = (call: Call, found: Cache, ids: readonly string[]) => Promise<number>

const ACTIONS: Readonly<Record<string, Action>> = { ls: list, rm: remove, prune }

async function list({ io, flag }: Call, found: Cache): Promise<number> {
  const items = await found.list()
  if (flag('json')) {
    for (const item of items) await io.out.line(JSON.stringify(shown(item)))
    return EXIT.ok
  }
  for (const line of table([HEADING, ...items.map(cellsOf)])) await io.out.line(line)
  const bytes = items.reduce((sum, item) => sum + item.bytes, 0)
  await io.err.line(`agirunner: ${items.length} entries, ${formatSize(bytes)}`)
  return EXIT.ok
}

const HEADING = ['ID', 'KIND', 'SIZE', 'USED', 'USERS', 'COMMIT', 'REF', 'REPOSITORY']
const COMMIT_DIGITS = 12

function cellsOf({ id, kind, bytes, lastUsed, users, meta }: CacheItem): string[] {
  const ago = `${showDuration(Math.max(0, Date.now() - lastUsed))} ago`
  const commit = meta?.commit?.slice(0, COMMIT_DIGITS) ?? '-'
  return [id, kind, formatSize(bytes), ago, String(users), commit, meta?.ref ?? '-', meta?.url ?? '-']
}

function shown({ meta, lastUsed, ...item }: CacheItem) {
  const { url = null, tenant = null, commit = null, ref = null, depth = null } = meta ?? {}
  return { ...item, lastUsed: new Date(lastUsed).toISOString(), url, tenant, commit, ref, depth }
}

async function remove({ io }: Call, found: Cache, ids: readonly string[]): Promise<number> {
  if (ids.length === 0)
    throw new CliError('`agirunner cache rm` needs an ID; none was given; `agirunner cache ls` shows them')
  const items = await found.list()
  const wanted = ids.map(id => {
    const item = items.find(one => one.id === id)
    if (item) return item
    throw new CliError(
      `${JSON.stringify(id)} is not in the cache; nothing was removed; see \`agirunner cache ls\``,
    )
  })
  let kept = 0
  for (const item of wanted) {
    if (await found.remove(item)) continue
    kept += 1
    await io.err.line(`error: ${item.id} was not removed; a task uses it; try again when it has ended`)
  }
  await io.err.line(`agirunner: removed ${wanted.length - kept} of ${wanted.length}`)
  return kept === 0 ? EXIT.ok : EXIT.task
}

async function prune({ io, flag, option, settings }: Call, found: Cache): Promise<number> {
  const maxBytes = sizeOf(option('to')) ?? cacheBytesOf(settings)
  const { removed, bytes } = await found.prune({ maxBytes, minFreeBytes: 0 })
  if (flag('json')) for (const item of removed) await io.out.line(JSON.stringify(shown(item)))
  const freed = removed.reduce((sum, item) => sum + item.bytes, 0)
  await io.err.line(
    `agirunner: removed ${removed.length} entries, ${formatSize(freed)}; ${formatSize(bytes)} are kept`,
  )
  return EXIT.ok
}

function sizeOf(value: string | undefined): number | null {
  if (value === undefined) return null
  try {
    return parseSize(value)
  } catch (error) {
    throw new CliError(`--to can't be ${JSON.stringify(value)}; ${(error as Error).message}; correct it`)
  }
}
