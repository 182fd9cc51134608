import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRepository, eventually, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { type ChangesCapture, createChangesCapture } from '../capture/changes/index.js'
import type { Workspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { captureAndDeliver, fetchBundle } from './delivery-fixture.js'
import { shellIn } from './shell.js'
import { accept, QUIET, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

const CANARY = 'canary-of-the-host-0123456789'

describe.each(WITHOUT_DISKS)('what a task may leave, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let repository: Repository
  /** A folder of the host with a file in it that no task may read. */
  let outside: string
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    const files = { 'a.txt': 'a\n', 'dir/one.txt': 'one\n', 'dir/canary': 'ours\n' }
    repository = await createRepository({ root: fixture.root, name: 'demo', files })
    room = fixture.room(strategy)
    outside = join(fixture.root, 'outside')
    mkdirSync(outside)
    for (const name of ['canary', 'one.txt']) writeFileSync(join(outside, name), CANARY)
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await capture.close()
    await fixture.close()
    expect(left).toEqual([])
  })

  interface Looked {
    readonly plan: WorkspacePlan
    readonly take: (by?: ChangesCapture) => ReturnType<typeof captureAndDeliver>
  }
  async function looking<T>(script: string, look: (looked: Looked) => Promise<T>): Promise<T> {
    const accepted = accept(
      { url: `${fixture.server.url}/demo.git`, commit: repository.head },
      { capture: { changes: 'commit' }, createdAt: '2026-01-01T00:00:00Z' },
    )
    const plan = await room.prepare(accepted, QUIET)
    try {
      await fixture.inside(plan, repo => shellIn(repo, script))
      return await look({
        plan,
        take: (by = capture) => captureAndDeliver({ room, capture: by, accepted, plan }),
      })
    } finally {
      await plan.release()
      for (const name of ['canary', 'one.txt']) expect(readFileSync(join(outside, name), 'utf8')).toBe(CANARY)
    }
  }

  /** A patch and a bundle as they are stored, the bundle unpacked. */
  async function stored(folder: string, plan: WorkspacePlan): Promise<string> {
    const clone = join(plan.slot.root, `clone-${Math.random()}`)
    await git(['clone', '-q', '--no-checkout', repository.path, clone])
    const commit = await fetchBundle(clone, join(folder, 'changes.bundle'))
    const all = await git(['log', '-p', '--binary', '--text', `${repository.head}..${commit}`], {
      cwd: clone,
    })
    return readFileSync(join(folder, 'changes.patch'), 'latin1') + all
  }

  test('links are what they say, and never what they lead to', async () => {
    const script = `
      ln -s ${outside}/canary away; ln -s /etc/shadow shadow; ln -s ../../../../../../../../etc/passwd up
      ln -sfn ${outside}/canary a.txt; rm -r dir; ln -s ${outside} dir; ln -s loop loop; ln -s . self; ln -s .git into`
    await looking(script, async ({ plan, take }) => {
      const { outputs, folder } = await take()
      const text = await stored(folder, plan)
      expect(text).toContain(`+${outside}/canary`)
      expect(text).toContain('+/etc/shadow')
      expect(text).not.toContain(CANARY)
      const files = outputs.changes?.files.map(({ path, mode }) => `${path} ${mode}`)
      expect(files).toContain('repo/dir 120000')
      expect(files).toContain('repo/a.txt 120000')
    })
  })

  test('a control: the canary is found where it is', async () => {
    await looking(`cat ${outside}/canary >copied`, async ({ plan, take }) => {
      expect(await stored((await take()).folder, plan)).toContain(CANARY)
    })
  })

  test('hard links, setuid, and names that are no text', async () => {
    const script = `
      ln a.txt hard; echo more >>hard; echo 1 >suid; chmod 6755 suid; chmod 1777 .
      echo 1 >"$(printf 'esc\\033[31m')"; echo 1 >"$(printf 'nl\\nx')"; echo 1 >"$(printf 'raw\\377\\200')"; echo 1 >"$(printf 'cr\\r')"`
    await looking(script, async ({ plan, take }) => {
      const { outputs, folder } = await take()
      const modes = new Map(outputs.changes?.files.map(({ path, mode }) => [path, mode]))
      expect(modes.get('repo/suid')).toBe('100755')
      expect(modes.get('repo/a.txt')).toBe('100644')
      expect(modes.get('repo/hard')).toBe('100644')
      expect([...modes.keys()]).toEqual(
        expect.arrayContaining(['repo/esc\x1b[31m', 'repo/nl\nx', 'repo/cr\r']),
      )
      // What a terminal would take for more than a name is quoted in the patch.
      const patch = readFileSync(join(folder, 'changes.patch'), 'latin1')
      expect(patch).not.toContain('\x1b')
      expect(patch).toContain('"a/raw\\377\\200"')
      await stored(folder, plan)
    })
  })

  test('folders deeper than any path is long: the truth or a typed failure, and all of it goes', async () => {
    const script = `perl -e 'for (1..5000) { mkdir "d" or die; chdir "d" or die } open(F, ">f"); print F "x"'`
    await looking(script, async ({ take }) => {
      const settled = await take().catch((error: unknown) => error)
      if (settled instanceof Error)
        expect(settled).toMatchObject({ code: 'capture.failed', phase: 'capture' })
      else expect(settled).toMatchObject({ outputs: { changes: { files: [{ status: 'added' }] } } })
    })
  })

  test('more files than there is time for: a typed failure, and the next capture is a good one', async () => {
    const count = 10_000
    const hasty = createChangesCapture({ deadlineMs: 50, children: 1 })
    try {
      const script = `perl -e 'for (1..${count}) { open(F, ">n$_") or die; print F $_; close F }'`
      await looking(script, async ({ plan, take }) => {
        await expect(take(hasty)).rejects.toMatchObject({ code: 'capture.failed', phase: 'capture' })
        // Without the budget it is told in full.
        const { outputs, folder } = await take()
        expect(outputs.changes?.files).toHaveLength(count)
        await fetchOnly(folder, plan)
      })
      await looking('echo 1 >n', async ({ take }) => {
        expect((await take()).outputs.changes?.files).toHaveLength(1)
      })
    } finally {
      await hasty.close()
    }
  }, 180_000)

  async function fetchOnly(folder: string, plan: WorkspacePlan): Promise<void> {
    const clone = join(plan.slot.root, 'clone')
    await git(['clone', '-q', '--bare', repository.path, clone])
    await git(['fetch', '-q', join(folder, 'changes.bundle'), 'HEAD'], { cwd: clone })
  }

  // What an archive brought lies where nobody else is.
  const inPlace = strategy !== 'archive'
  if (inPlace)
    test('a file of 10 GB without anything in it is left out with a note, and not read', async () => {
      await looking('truncate -s 10G sparse; echo 1 >n', async ({ take }) => {
        const since = performance.now()
        const { changes } = (await take()).outputs
        expect(performance.now() - since).toBeLessThan(20_000)
        expect(changes?.files.map(({ path }) => path)).toEqual(['repo/n'])
        expect(changes?.notes).toEqual([expect.stringMatching(/^repo\/sparse: larger than \d+ bytes/)])
      })
    })

  if (strategy === 'copy')
    test('a million files: in full or a typed failure, within time and memory', async () => {
      await looking('mkdir many', async ({ plan, take }) => {
        const many = join(plan.layers.strategy === 'copy' ? plan.layers.copy : '', 'many')
        // Made after the other children, which would not see the mount: in memory, and nearly all names of one file.
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'nr_inodes=0,size=2g', 'agirunner-test', many])
        const [deadlineMs, maxMemoryBytes] = [10_000, 2 ** 30]
        const bounded = createChangesCapture({ deadlineMs, maxMemoryBytes, children: 1 })
        try {
          await shellIn(
            many,
            `perl -e 'open(F, ">a"); print F "x"; for (2..1e6) { link("a", "n$_") or die }'`,
          )
          const since = performance.now()
          const settled = await take(bounded).catch((error: unknown) => error)
          expect(performance.now() - since).toBeLessThan(3 * deadlineMs)
          if (settled instanceof Error)
            expect(settled).toMatchObject({ code: 'capture.failed', phase: 'capture' })
          else expect(settled).toMatchObject({ outputs: { changes: { files: { length: 1_000_000 } } } })
        } finally {
          await bounded.close()
          execFileSync('umount', ['-l', many])
        }
        // Whoever captures next is not harmed.
        expect((await take()).outputs.changes?.files).toEqual([])
      })
    }, 120_000)

  if (inPlace)
    test('links that change places with folders while it is read', async () => {
      await looking('mkdir -p swap/in; echo ours >swap/in/canary', async ({ plan, take }) => {
        // A task is dead by now; nothing of the worker's may break or stand still even if something else writes there.
        const { layers } = plan
        const repo = 'copy' in layers ? layers.copy : layers.upper
        const at = join(repo, 'swap')
        const loop = `while :; do mv in real; ln -sfn '${outside}' in; rm -f in; mv real in; done`
        const swapper = spawn('sh', ['-c', loop], { cwd: at, stdio: 'ignore' })
        try {
          // The control: whoever goes by the path is led out.
          await eventually(() => read(join(at, 'in/canary')) === CANARY, { within: 10_000 })
          for (let round = 0; round < 10; round += 1) {
            const settled = await take().catch((error: Error) => error)
            if (settled instanceof Error) expect(settled).toMatchObject({ code: 'capture.failed' })
            else {
              expect(settled).toMatchObject({ outputs: { changes: { tree: expect.any(String) } } })
              expect(read(join(settled.folder, 'changes.patch')) ?? '').not.toContain(CANARY)
            }
          }
        } finally {
          swapper.kill('SIGKILL')
          await once(swapper, 'close')
        }
      })
    })
})

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
