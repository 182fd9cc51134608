// Who may import whom. ARCHITECTURE.md shows the same table; `infra/check/planted.js` plants a violation of each rule
// and sees it caught.

/** The rooms of the worker in the order that data flows: a room may import from an earlier one, never from a later. */
const ROOMS = ['intake', 'engine', 'workspace', 'execution', 'capture', 'report', 'cleanup']
/** The files that see all rooms: they join them and tell the story. */
const STORY = ['main', 'verify-image', 'index', 'compose', 'consume', 'run-task']

const WORKER = '^apps/worker/src/'
const TEST = '\\.test\\.ts$|/src/testing/|/src/test/'
const E2E = 'test/e2e'
const story = `${WORKER}(${STORY.join('|')})\\.ts$`

/** What a package may import of ours, itself apart. Tests may use the test-kit as well. */
const PACKAGES = {
  'packages/contracts': [],
  'packages/cache': [],
  'packages/storage': [],
  'packages/producer': ['packages/contracts', 'packages/storage'],
  'packages/cli': [
    'packages/cache',
    'packages/contracts',
    'packages/producer',
    'packages/storage',
    'infra/setup',
  ],
  'packages/test-kit': ['packages/contracts'],
  'packages/bench': ['packages/contracts', 'packages/producer', 'packages/test-kit', 'infra/setup'],
  'apps/worker': ['packages/cache', 'packages/contracts', 'packages/storage'],
  'apps/board': ['packages/contracts', 'packages/producer'],
  'infra/setup': [],
  [E2E]: ['packages/contracts', 'packages/producer', 'packages/storage', 'packages/test-kit'],
}
const OURS = '^(packages|apps|infra|test)/'

const onlyItsPackages = Object.entries(PACKAGES).map(([from, allowed]) => ({
  name: `${from.replace('/', '-')}-imports-only-its-own`,
  comment: `${from} may import ${allowed.join(', ') || 'nothing of ours'}; apps never import apps`,
  severity: 'error',
  from: from === E2E ? { path: `^${from}/` } : { path: `^${from}/`, pathNot: TEST },
  to: { path: OURS, pathNot: [from, ...allowed].map(path => `^${path}/`) },
}))

/** Tests see what they test and what the test-kit offers: the same rule, with one more name in the list. */
const testsOnlyTheKit = Object.entries(PACKAGES)
  .filter(([from]) => from !== E2E)
  .map(([from, allowed]) => ({
    name: `${from.replace('/', '-')}-tests-import-only-the-kit`,
    comment: `tests of ${from} may import what ${from} may, and the test-kit`,
    severity: 'error',
    from: { path: `^${from}/.*(${TEST})` },
    to: { path: OURS, pathNot: [from, ...allowed, 'packages/test-kit'].map(path => `^${path}/`) },
  }))

const oneWay = ROOMS.map((room, index) => ({
  name: `room-${room}-sees-no-later-room`,
  comment: `${room} may import from ${['support', ...ROOMS.slice(0, index)].join(', ')}: data flows one way`,
  severity: 'error',
  from: { path: `${WORKER}${room}/`, pathNot: TEST },
  to: { path: [...ROOMS.slice(index + 1).map(later => `${WORKER}${later}/`), story] },
}))

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      comment: 'two files that need each other are one, or a third is missing; types count too',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolvable',
      comment: 'an import that nothing answers would fail only when it runs',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-undeclared-package',
      comment: 'a package that is not in package.json works by accident',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-development-package-at-run-time',
      comment: 'what ships must not need what only tests have',
      severity: 'error',
      from: { path: '^(apps|packages)/[^/]+/src/', pathNot: TEST },
      to: { dependencyTypes: ['npm-dev'] },
    },
    {
      name: 'production-code-imports-no-test-code',
      comment: 'tests and what only they use stay out of what ships',
      severity: 'error',
      from: { pathNot: [TEST, `^${E2E}/`] },
      to: { path: [TEST, `^${E2E}/`] },
    },
    ...onlyItsPackages,
    ...testsOnlyTheKit,
    {
      name: 'room-support-sees-no-room',
      comment: 'what every room uses knows none of them',
      severity: 'error',
      from: { path: `${WORKER}(support/|attempt-state\\.ts$|failures\\.ts$|config\\.ts$)`, pathNot: TEST },
      to: { path: [...ROOMS.map(room => `${WORKER}${room}/`), story] },
    },
    ...oneWay,
  ],
  options: {
    // TypeScript 7 has no API for its parser, and acorn would not see imports of types.
    parser: 'swc',
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules|/dist/' },
    // It can't parse JSX either: what the board's pages import is seen by the compiler and by knip.
    exclude: { path: '/dist/.*\\.(test|map)|\\.tsx$' },
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
}
