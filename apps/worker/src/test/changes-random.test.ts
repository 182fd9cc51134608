import { join } from 'node:path'
import { createRepository, git } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { createChangesCapture } from '../capture/changes/index.js'
import type { Workspaces } from '../workspace/index.js'
import { captureAndDeliver, fetchBundle } from './delivery-fixture.js'
import { baseFiles, doSteps, steps } from './random-work.js'
import { accept, QUIET, treeByGit, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

/** The same cases in every run; others by the environment. A failure is reported with both, and made small. */
const SEED = Number(process.env.AGIRUNNER_TEST_SEED ?? 20_260_203)
const RUNS = Number(process.env.AGIRUNNER_TEST_RUNS ?? 25)

/** Of each strategy; on a machine that is busy there are fewer cases. */
const MAX_MS = 60_000

describe.each(WITHOUT_DISKS)('any change of any repository, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let names = 0
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    room = fixture.room(strategy)
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await capture.close()
    await fixture.close()
    expect(left).toEqual([])
  })

  test('the patch, the commit and what git itself would take are one tree', async () => {
    const until = performance.now() + MAX_MS
    const property = fc.asyncProperty(baseFiles, steps, async (files, work) => {
      // A case that is under way is never given up: it would leave its workspace.
      if (performance.now() > until) return
      names += 1
      const repository = await createRepository({ root: fixture.root, name: `r${names}`, files })
      const source = { url: `${fixture.server.url}/r${names}.git`, commit: repository.head }
      const accepted = accept(source, { capture: { changes: 'commit' }, createdAt: '2026-01-01T00:00:00Z' })
      const plan = await room.prepare(accepted, QUIET)
      try {
        const byGit = await fixture.inside(plan, async repo => {
          await doSteps(repo, work)
          return await treeByGit(repo, join(plan.slot.root, 'scratch'), { touch: false })
        })
        const { outputs, folder } = await captureAndDeliver({ room, capture, accepted, plan })
        const { changes } = outputs
        expect(changes?.tree).toBe(byGit)
        expect(changes?.patch === null).toBe(changes?.files.length === 0)
        expect(changes?.bundle === null).toBe(changes?.files.length === 0)
        if (changes?.patch == null) return
        const clone = join(plan.slot.root, 'clone')
        // As it is stored: a clone that converts line ends would have another patch.
        await git(['clone', '--quiet', '--no-checkout', repository.path, clone])
        await git(['read-tree', 'HEAD'], { cwd: clone })
        expect(
          await git(['apply', '--cached', '--binary', join(folder, 'changes.patch')], { cwd: clone }),
        ).toBe('')
        expect(await git(['write-tree'], { cwd: clone })).toBe(byGit)
        const commit = await fetchBundle(clone, join(folder, 'changes.bundle'))
        expect(await git(['rev-parse', `${commit}^{tree}`, `${commit}^`], { cwd: clone })).toBe(
          `${byGit}\n${repository.head}`,
        )
      } finally {
        await plan.release()
      }
    })
    await fc.assert(property, { seed: SEED, numRuns: RUNS, verbose: 1 })
  }, 240_000)
})
