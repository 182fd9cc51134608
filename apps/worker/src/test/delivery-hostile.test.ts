import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRepository, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import type { Workspaces } from '../workspace/index.js'
import { captureAndDeliver } from './delivery-fixture.js'
import { commitOf, treeEntry, writeCycle, writeLoose } from './hostile-objects.js'
import { shellIn } from './shell.js'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

/** What a task does to its repository; it may need to know the base. */
type Attack = (repo: string, base: string) => unknown

const EVIL = 'echo evil >evil.txt; git add .; git commit -qm evil'
const shell =
  (script: string): Attack =>
  repo =>
    shellIn(repo, script)

/** Makes a commit of a tree that git would not make, and goes there. */
const commitOfTree =
  (tree: (blob: string) => Buffer): Attack =>
  (repo, base) => {
    const blob = writeLoose(repo, 'blob', Buffer.from('evil\n'))
    const oid = writeLoose(repo, 'tree', tree(blob))
    writeFileSync(join(repo, '.git/HEAD'), `${writeLoose(repo, 'commit', commitOf(oid, base))}\n`)
  }
const commitOfBytes =
  (commit: (tree: string, base: string) => Buffer): Attack =>
  async (repo, base) => {
    const tree = await git(['rev-parse', 'HEAD^{tree}'], { cwd: repo })
    writeFileSync(join(repo, '.git/HEAD'), `${writeLoose(repo, 'commit', commit(tree, base))}\n`)
  }

const ATTACKS: readonly (readonly [string, Attack, RegExp])[] = [
  ['a history of its own', shell('git checkout -q --orphan x; git commit -qm x'), /not on top of the base/],
  ['an older commit', shell('git reset -q --hard HEAD^'), /not on top of the base/],
  ['a commit on an older one', shell(`git reset -q --hard HEAD^; ${EVIL}`), /not on top of the base/],
  [
    'a merge of a history of its own',
    shell(
      'git checkout -q --orphan x; git rm -rqf .; echo 1 >x; git add x; git commit -qm x; git checkout -q main; git merge -q --allow-unrelated-histories --no-edit x',
    ),
    /not on top of the base/,
  ],
  ['no HEAD', shell('rm .git/HEAD'), /HEAD is missing/],
  ['a HEAD without a commit', shell('echo "ref: refs/heads/none" >.git/HEAD'), /HEAD names no commit/],
  ['a HEAD that is a link', shell('ln -sf /etc/shadow .git/HEAD'), /HEAD is missing/],
  ['no .git', shell('rm -rf .git'), /HEAD is missing/],
  [
    'objects that lie elsewhere, by a link',
    shell(`${EVIL}; mv .git/objects ../stolen; ln -s "$PWD/../stolen" .git/objects`),
    /is missing/,
  ],
  [
    'objects that lie elsewhere, by alternates',
    shell(
      `${EVIL}; cp -a .git/objects ../other; rm -rf .git/objects/??; echo "$PWD/../other" >.git/objects/info/alternates`,
    ),
    /is missing/,
  ],
  [
    'a commit that is a FIFO',
    shell(
      `${EVIL}; c=$(git rev-parse HEAD); f=.git/objects/$(echo $c | cut -c1-2)/$(echo $c | cut -c3-); rm -f $f; mkfifo $f`,
    ),
    /is missing/,
  ],
  [
    'a file that is missing',
    shell(
      `${EVIL}; c=$(git rev-parse HEAD:evil.txt); rm -f .git/objects/$(echo $c | cut -c1-2)/$(echo $c | cut -c3-)`,
    ),
    /is missing/,
  ],
  [
    'a file under the name of another',
    async repo => {
      await shellIn(repo, EVIL)
      const name = await git(['rev-parse', 'HEAD:evil.txt'], { cwd: repo })
      writeLoose(repo, 'blob', Buffer.from('other\n'), name)
    },
    /not what its name says/,
  ],
  [
    'a commit under the name of another',
    async repo => {
      await shellIn(repo, EVIL)
      const [name, tree, parent] = (await git(['log', '-1', '--format=%H %T %P'], { cwd: repo })).split(' ')
      writeLoose(repo, 'commit', commitOf(tree ?? '', parent ?? ''), name)
    },
    /not what its name says/,
  ],
  [
    'deltas in a circle',
    (repo, base) => {
      const commit = 'a'.repeat(40)
      writeCycle(repo, commit, 'b'.repeat(40))
      writeFileSync(join(repo, '.git/HEAD'), `${commit}\n`)
      expect(base).toMatch(/^[0-9a-f]{40}$/)
    },
    /can't be read/,
  ],
  [
    'a file that unfolds without end',
    repo => {
      const blob = writeLoose(repo, 'blob', Buffer.alloc(300 * 2 ** 20))
      return shellIn(repo, `git update-index --add --cacheinfo 100644,${blob},bomb; git commit -qm bomb`)
    },
    /can't be read/,
  ],
  [
    'more commits than anybody reads',
    (repo, base) => {
      const commit = (index: number) =>
        `commit refs/heads/many\nmark :${index + 1}\ncommitter E <e@x> ${1_700_000_000 + index} +0000\ndata 0\n${index === 0 ? `from ${base}\n` : ''}\n`
      const all = Array.from({ length: 1001 }, (_, index) => commit(index)).join('')
      return git(['fast-import', '--quiet'], { cwd: repo, input: all }).then(() =>
        shellIn(repo, 'git symbolic-ref HEAD refs/heads/many'),
      )
    },
    /more than 1000/,
  ],
  ['a name that leads up', commitOfTree(blob => treeEntry('100644', '..', blob)), /is no name/],
  ['a .git', commitOfTree(blob => treeEntry('100644', '.git', blob)), /stands for .git/],
  ['a .git in disguise', commitOfTree(blob => treeEntry('100644', '.Git ', blob)), /stands for .git/],
  ['a name with a slash', commitOfTree(blob => treeEntry('100644', 'a/b', blob)), /holds a slash/],
  [
    'a name twice',
    commitOfTree(blob => Buffer.concat([treeEntry('100644', 'a', blob), treeEntry('100644', 'a', blob)])),
    /a name twice/,
  ],
  [
    'names in disorder',
    commitOfTree(blob => Buffer.concat([treeEntry('100644', 'b', blob), treeEntry('100644', 'a', blob)])),
    /not written as git writes/,
  ],
  ['a mode of its own', commitOfTree(blob => treeEntry('100666', 'a', blob)), /not written as git writes/],
  ['a tree that is a file', commitOfTree(blob => treeEntry('40000', 'a', blob)), /is a blob, not a tree/],
  ['an entry that is nothing', commitOfTree(() => treeEntry('100644', 'a', '0'.repeat(40))), /is nothing/],
  [
    'a person who ends the line',
    commitOfBytes((tree, base) => commitOf(tree, base, 'Eve <eve> evil')),
    /no valid author/,
  ],
  [
    'a commit with two trees',
    commitOfBytes((tree, base) =>
      Buffer.from(commitOf(tree, base).toString().replace('\n\n', `\ntree ${tree}\n\n`)),
    ),
    /says something twice/,
  ],
  [
    'a commit with a NUL',
    commitOfBytes((tree, base) => Buffer.concat([commitOf(tree, base), Buffer.from([0])])),
    /NUL/,
  ],
]

let fixture: WorkspaceFixture
let room: Workspaces
let repository: Repository
let canary: string
const capture = createChangesCapture()
beforeAll(async () => {
  fixture = await WorkspaceFixture.create()
  room = fixture.room('overlay_volume')
  repository = await createRepository({
    root: fixture.root,
    name: 'demo',
    build: async builder => {
      for (const text of ['zero', 'one']) {
        await builder.write({ 'a.txt': `${text}\n` })
        await builder.commit(text)
      }
    },
  })
  mkdirSync(join(fixture.root, 'canary'))
  canary = join(fixture.root, 'canary/file')
  writeFileSync(canary, 'unharmed')
})
afterAll(async () => {
  const left = await fixture.leftovers()
  await capture.close()
  await fixture.close()
  expect(left).toEqual([])
})

async function run(attack: Attack, commits: 'keep' | 'squash', branch: string) {
  const source = {
    url: `${fixture.server.url}/demo.git`,
    ref: 'main',
    depth: 0,
    credentials: { password: { secretRef: 'env:GIT' } },
  }
  const accepted = accept(source, { capture: { push: { branch, commits } }, password: 'x'.repeat(20) })
  const plan = await room.prepare(accepted, QUIET)
  try {
    await fixture.inside(plan, async repo => {
      await attack(repo, repository.head)
      await shellIn(repo, 'echo more >>a.txt')
    })
    return await captureAndDeliver({ room, capture, accepted, plan })
  } finally {
    await plan.release()
  }
}

describe('a repository that keeps, with commits kept,', () => {
  test.each(ATTACKS)('%s is refused, and the change is captured all the same', async (name, attack, why) => {
    const branch = `kept/${ATTACKS.findIndex(([one]) => one === name)}`
    const { outputs, failure } = await run(attack, 'keep', branch)
    expect(failure).toMatchObject({
      code: 'push.rejected',
      message: expect.stringMatching(why),
      phase: 'capture',
    })
    expect(outputs.changes).toMatchObject({ pushed: null, patch: { sizeBytes: expect.any(Number) } })
    expect(await repository.git(['for-each-ref', `refs/heads/${branch}`])).toBe('')
    expect(readFileSync(canary, 'utf8')).toBe('unharmed')
    // The control: the squashed commit is made of what was captured, so nothing of that comes near it.
    const control = await run(attack, 'squash', branch.replace('kept', 'squashed'))
    expect(control.failure).toBeNull()
    await repository.git(['fsck', '--strict', '--no-dangling'])
  })

  test('replacements and grafts are none of the server’s', async () => {
    const script = `${EVIL}; git replace HEAD HEAD^; mkdir -p .git/info; echo "$(git rev-parse HEAD)" >.git/info/grafts`
    const { outputs, failure } = await run(shell(script), 'keep', 'kept/replaced')
    expect(failure).toBeNull()
    const sha = outputs.changes?.pushed?.sha ?? ''
    expect(await repository.git(['log', '--format=%s', sha])).toMatch(
      /^Changes of task t-\d+\nevil\none\nzero$/,
    )
    expect(await repository.git(['rev-parse', `${sha}^{tree}`])).toBe(outputs.changes?.tree)
  })
})
