import { expect, test } from '@jest/globals'
import { filesOf } from './diff.js'

const PATCH = `diff --git a/src/page.ts b/src/page.ts
index 1111111..2222222 100644
--- a/src/page.ts
+++ b/src/page.ts
@@ -1,3 +1,4 @@ export function page()
 import { a } from './a.js'
-const old = 1
+const fresh = 1
+const more = 2
 end
\\ No newline at end of file
@@ -10 +11 @@
-x
+y
diff --git a/old name.txt b/new name.txt
similarity index 100%
rename from old name.txt
rename to new name.txt
diff --git a/logo.png b/logo.png
new file mode 100644
index 0000000..abc
GIT binary patch
literal 4
Lc$xyz

literal 0
HcmV?d00001

diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
`

test('a patch is files with what became of them', () => {
  expect(filesOf(PATCH).map(file => ({ ...file, hunks: file.hunks.length }))).toEqual([
    {
      path: 'src/page.ts',
      from: null,
      status: 'modified',
      binary: false,
      mode: null,
      added: 3,
      removed: 2,
      hunks: 2,
    },
    {
      path: 'new name.txt',
      from: 'old name.txt',
      status: 'renamed',
      binary: false,
      mode: null,
      added: 0,
      removed: 0,
      hunks: 0,
    },
    {
      path: 'logo.png',
      from: null,
      status: 'added',
      binary: true,
      mode: null,
      added: 0,
      removed: 0,
      hunks: 0,
    },
    {
      path: 'run.sh',
      from: null,
      status: 'modified',
      binary: false,
      mode: '100644 → 100755',
      added: 0,
      removed: 0,
      hunks: 0,
    },
  ])
})

test('its lines are numbered on both sides', () => {
  const [first, second] = filesOf(PATCH)[0]?.hunks ?? []
  expect(first?.header).toBe('@@ -1,3 +1,4 @@ export function page()')
  expect(first?.lines).toEqual([
    { kind: 'context', before: 1, after: 1, text: "import { a } from './a.js'" },
    { kind: 'removed', before: 2, after: null, text: 'const old = 1' },
    { kind: 'added', before: null, after: 2, text: 'const fresh = 1' },
    { kind: 'added', before: null, after: 3, text: 'const more = 2' },
    { kind: 'context', before: 3, after: 4, text: 'end' },
    { kind: 'note', before: null, after: null, text: 'No newline at end of file' },
  ])
  expect(second?.lines.map(({ before, after }) => [before, after])).toEqual([
    [10, null],
    [null, 11],
  ])
})

test('a line that looks like a header is a line', () => {
  const patch =
    'diff --git a/q.sql b/q.sql\n--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1 @@\n--- a/comment\n-diff --git a/x b/x\n+++ b/y\n'
  const [file, ...others] = filesOf(patch)
  expect(others).toEqual([])
  expect(file?.hunks[0]?.lines.map(({ kind, text }) => `${kind} ${text}`)).toEqual([
    'removed -- a/comment',
    'removed diff --git a/x b/x',
    'added ++ b/y',
  ])
})

test('a path that git quotes is read', () => {
  const [file] = filesOf(
    'diff --git "a/caf\\303\\251\\t\\"x\\".txt" "b/caf\\303\\251\\t\\"x\\".txt"\ndeleted file mode 100644\n',
  )
  expect(file).toMatchObject({ path: 'café\t"x".txt', status: 'deleted' })
})

test('what is no patch is no file, and a hunk that breaks off ends with its file', () => {
  expect(filesOf('')).toEqual([])
  expect(filesOf('<html>\nnothing\n')).toEqual([])
  const cut = 'diff --git a/a b/a\n@@ -1,9 +1,9 @@\n one\ndiff --git a/b b/b\n@@ -1 +1 @@\n-x\n+y\n'
  expect(filesOf(cut).map(({ path, added, hunks }) => [path, added, hunks[0]?.lines.length])).toEqual([
    ['a', 0, 1],
    ['b', 1, 2],
  ])
})
