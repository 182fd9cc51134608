import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import type { Collected } from '../capture/artifacts/collect.js'
import { type ChangesCapture, createChangesCapture } from '../capture/changes/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'

const CANARY = 'canary-of-the-host-0123456789'
const capture = createChangesCapture()
afterAll(async () => await capture.close())

/** A slot as a dead task leaves it, with its parts where the capture looks for them. */
let root: string
const at = (...names: string[]) => join(root, ...names)
beforeEach(() => {
  root = mkdtempSync('/var/tmp/agirunner-artifacts-')
  for (const name of ['repo', 'output', 'context', 'outside']) mkdirSync(at(name))
  for (const name of ['canary', 'one.txt']) writeFileSync(at('outside', name), CANARY)
})
afterEach(() => {
  // Not by rmSync, for which a path can be too long.
  execFileSync('rm', ['-rf', root])
})

let runs = 0
async function collect(more: { globs?: string[]; maxBytes?: number; by?: ChangesCapture } = {}) {
  const { globs = [], maxBytes = 2 ** 30, by = capture } = more
  const layers = { strategy: 'copy', copy: at('repo'), lower: at('repo') }
  const slot = { root, output: at('output'), context: at('context') }
  runs += 1
  const target = at(`target-${runs}`)
  const plan = { layers, slot } as unknown as WorkspacePlan
  const signal = new AbortController().signal
  const collected = await by.artifacts({ plan, globs, target, maxBytes, secrets: [], signal })
  return { ...collected, target }
}

const pathsOf = ({ files }: Collected) => files.map(({ path }) => path)
const reasonsOf = ({ skipped }: Collected) =>
  Object.fromEntries(skipped.map(({ path, reason }) => [path, reason]))
const storedIn = (target: string) =>
  readdirSync(target).map(name => readFileSync(join(target, name), 'latin1'))

/** Has a file and a folder change places with links to the outside, thousands of times a second, while `work` runs. */
async function swapping<T>(folder: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(join(folder, 'in'), { recursive: true })
  for (const name of ['canary', 'in/canary', 'in/one.txt']) writeFileSync(join(folder, name), 'ours')
  const swap = `
    const { renameSync, symlinkSync, unlinkSync } = require('node:fs')
    for (const [name, to] = [], pairs = [['canary', '${at('outside/canary')}'], ['in', '${at('outside')}']]; ;)
      for (const [name, to] of pairs) {
        renameSync(name, '.' + name); symlinkSync(to, name); unlinkSync(name); renameSync('.' + name, name)
      }`
  const swapper = spawn(process.execPath, ['-e', swap], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  try {
    return await work()
  } finally {
    expect(swapper.exitCode).toBeNull()
    swapper.kill('SIGKILL')
    await once(swapper, 'close')
  }
}

/** The control: what goes by paths, as `cp -r` does, and looks before it opens. */
function copiedByPath(folder: string): string {
  const read = (path: string): string => {
    try {
      if (!statSync(path).isDirectory()) return readFileSync(path, 'latin1')
      return readdirSync(path)
        .map(name => read(join(path, name)))
        .join('')
    } catch {
      return ''
    }
  }
  return read(folder)
}

describe('links that change places with files and folders while artifacts are copied', () => {
  test.each(['output', 'repo'])(
    'never lead out of %s',
    async name => {
      const folder = at(name, 'swap')
      await swapping(folder, async () => {
        for (let leaked = ''; !leaked.includes(CANARY); ) leaked = copiedByPath(folder)
        const kept = new Set<string>()
        for (const until = performance.now() + 3000; performance.now() < until; ) {
          const collected = await collect({ globs: ['repo/swap/**'] })
          for (const text of storedIn(collected.target)) expect(text).toBe('ours')
          for (const path of pathsOf(collected)) kept.add(path)
        }
        // It came as far as to what changes its place.
        expect([...kept]).toContain(`${name}/swap/in/one.txt`)
      })
    },
    60_000,
  )
})

describe('what is no file, and what is none of the task’s alone', () => {
  test('a device, a FIFO and links are named, a hard link and a set-user-id file are bytes and nothing else', async () => {
    execFileSync('mknod', [at('output/null'), 'c', '1', '3'])
    execFileSync('mkfifo', [at('output/fifo')])
    for (const [name, to] of [
      ['shadow', '/etc/shadow'],
      ['out', at('outside')],
      ['dangling', 'nowhere'],
    ] as const)
      symlinkSync(to, at('output', name))
    writeFileSync(at('context/elsewhere'), 'of another place')
    linkSync(at('context/elsewhere'), at('output/hard-1'))
    linkSync(at('context/elsewhere'), at('output/hard-2'))
    execFileSync('sh', ['-c', 'echo x >suid; chmod 6755 suid'], { cwd: at('output') })
    const collected = await collect()
    expect(pathsOf(collected)).toEqual(['output/hard-1', 'output/hard-2', 'output/suid'])
    expect(reasonsOf(collected)).toEqual({
      'output/null': 'device',
      'output/fifo': 'fifo',
      'output/shadow': 'symlink',
      'output/out': 'symlink',
      'output/dangling': 'symlink',
    })
    for (const name of readdirSync(collected.target)) {
      const stat = statSync(join(collected.target, name))
      expect([stat.mode & 0o7777, stat.nlink]).toEqual([0o600, 1])
    }
  })

  test('names that are no text, or that a terminal would obey, come as JSON can say them', async () => {
    const names = ['new\nline', 'esc\x1b[31m', 'low\x01', 'del\x7f', 'tab\t', ' ', '-rf', '"quoted"', 'ö']
    for (const name of names) writeFileSync(at('output', name), 'x')
    for (const bytes of [[0xff], [0xc3, 0x28], [0x61, 0x80], [0xed, 0xa0, 0x80]])
      writeFileSync(Buffer.concat([Buffer.from(`${at('output')}/`), Buffer.from(bytes)]), 'x')
    const collected = await collect()
    expect(pathsOf(collected).toSorted()).toEqual(names.map(name => `output/${name}`).toSorted())
    expect(collected.skipped.map(({ reason }) => reason)).toEqual(Array(4).fill('name_not_utf8'))
    expect(JSON.parse(JSON.stringify(collected))).toEqual(collected)
    for (const name of readdirSync(collected.target)) expect(name).toMatch(/^\d+-[A-Za-z0-9._-]*$/)
  })
})

describe('what is too much', () => {
  test('a file of 10 GB without anything in it is not read, and not kept', async () => {
    execFileSync('truncate', ['-s', '10G', at('output/sparse')])
    writeFileSync(at('output/a'), 'a')
    const since = performance.now()
    const collected = await collect()
    expect(performance.now() - since).toBeLessThan(10_000)
    expect(pathsOf(collected)).toEqual(['output/a'])
    expect(collected.skipped).toEqual([{ path: 'output/sparse', reason: 'too_large' }])
    // The control: within its budget it is copied.
    execFileSync('truncate', ['-s', '10M', at('output/sparse')])
    expect(pathsOf(await collect())).toEqual(['output/a', 'output/sparse'])
  })

  test('folders 5000 deep are told, and what lies beside them is kept', async () => {
    const script = 'for (1..5000) { mkdir "d" or die; chdir "d" or die } open(F, ">f"); print F "x"'
    execFileSync('perl', ['-e', script], { cwd: at('output') })
    writeFileSync(at('output/z'), 'z')
    const collected = await collect()
    expect(pathsOf(collected)).toEqual(['output/z'])
    expect(collected.skipped).toEqual([{ path: `output${'/d'.repeat(100)}`, reason: 'too_deep' }])
  })
})

describe('a million files', () => {
  const FILES = 1_000_000

  /** In memory, and nearly all of them names of one file: on a disk they would take longer to make than to read. */
  async function withMillion(folder: string, work: (by: ChangesCapture) => Promise<void>): Promise<void> {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'nr_inodes=0,size=2g', 'agirunner-test', at(folder)])
    // A capture of its own: children that are there already have mounts of their own.
    const by = createChangesCapture({ children: 1 })
    try {
      const script = `open(F, ">first"); print F "x"; close F; for (2..${FILES}) { link("first", "n$_") or die $! }`
      execFileSync('perl', ['-e', script], { cwd: at(folder) })
      await work(by)
    } finally {
      await by.close()
      execFileSync('umount', ['-l', at(folder)])
    }
  }

  /** The most that any child of this process has had in memory, in bytes. */
  function childrenPeakBytes(): number {
    const statuses = readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .map(statusOf)
    const own = statuses.filter(status => status.includes(`\nPPid:\t${process.pid}\n`))
    return Math.max(0, ...own.map(status => Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024))
  }

  const statusOf = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/status`, 'utf8')
    } catch {
      return ''
    }
  }

  test('as artifacts: as many as may be, the budget named, the rest counted', async () => {
    await withMillion('output', async by => {
      const since = performance.now()
      const collected = await collect({ by })
      // Measured: 33 s, with eight others at work on two cores.
      expect(performance.now() - since).toBeLessThan(120_000)
      expect(collected.files).toHaveLength(5000)
      expect(collected.skipped).toHaveLength(1001)
      expect(collected.skipped[0]?.reason).toBe('too_many_files')
      expect(Number(/^(\d+) more$/.exec(collected.skipped.at(-1)?.reason ?? '')?.[1])).toBeGreaterThan(
        990_000,
      )
      expect(childrenPeakBytes()).toBeLessThan(2 ** 30)
    })
  }, 180_000)
})
