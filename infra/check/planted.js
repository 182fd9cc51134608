import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { problemsOfText } from './repository.js'

/**
 * @typedef {object} Plant
 * @property {string} expected what must be in the tool's answer
 * @property {Record<string, string>} files
 */

/** @param {string} specifier */
const typeImport = specifier => `import type { T } from '${specifier}'\nexport type U = T\n`
const target = 'export type T = string\n'

/** @type {Plant[]} one for each boundary that has a shape of its own; the rules for rooms and packages are made below */
const boundaries = [
  {
    expected: 'no-circular',
    files: {
      'apps/worker/src/support/a.ts': typeImport('./b.js'),
      'apps/worker/src/support/b.ts': `${typeImport('./a.js')}${target}`,
    },
  },
  { expected: 'no-unresolvable', files: { 'apps/worker/src/support/lost.ts': typeImport('./nowhere.js') } },
  {
    expected: 'production-code-imports-no-test-code',
    files: {
      'apps/worker/src/support/c.ts': typeImport('./d.test.js'),
      'apps/worker/src/support/d.test.ts': target,
    },
  },
  {
    expected: 'room-support-sees-no-room',
    files: {
      'apps/worker/src/support/e.ts': typeImport('../intake/f.js'),
      'apps/worker/src/intake/f.ts': target,
    },
  },
  {
    expected: 'no-undeclared-package',
    files: {
      'packages/contracts/package.json': '{"name":"x"}',
      'packages/contracts/src/g.ts': "export * from 'turbo'\n",
    },
  },
  {
    expected: 'no-development-package-at-run-time',
    files: {
      'packages/cli/package.json': '{"devDependencies":{"turbo":"1"}}',
      'packages/cli/src/h.ts': "export * from 'turbo'\n",
    },
  },
]

/**
 * Plants a violation of every rule in a folder of its own and has the real tools, with the real configuration, look
 * for it: a rule that catches nothing any more would otherwise look like good news.
 *
 * @param {string} root
 * @returns {Promise<string[]>} one line for each rule that missed what was planted
 */
export async function missesOfPlanted(root) {
  const folder = mkdtempSync(join(tmpdir(), 'agirunner-planted-'))
  try {
    for (const file of ['.dependency-cruiser.cjs', 'biome.json', '.oxlintrc.json'])
      copyFileSync(join(root, file), join(folder, file))
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    write(folder, {
      '.gitignore': 'node_modules\n',
      'package.json': '{"type":"module"}',
      'tsconfig.json': '{"compilerOptions":{"strict":true}}',
    })
    return [...missedBoundaries(root, folder), ...missedLint(folder), ...missedRepositoryRules()]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * @param {string} root
 * @param {string} folder
 */
function missedBoundaries(root, folder) {
  const { forbidden } = createRequire(import.meta.url)(join(root, '.dependency-cruiser.cjs'))
  const plants = [...boundaries, ...forbidden.flatMap(plantOf)]
  for (const { files } of plants) write(folder, files)
  const { stdout, stderr } = run(
    folder,
    'depcruise',
    '--output-type',
    'json',
    'apps',
    'packages',
    'infra',
    'test',
  )
  if (!stdout.startsWith('{')) return [`dependency-cruiser did not run: ${stderr}`]
  /** @type {{from: string, rule: {name: string}}[]} */
  const violations = JSON.parse(stdout).summary.violations
  /** @param {Plant} plant */
  const isCaught = ({ expected, files }) =>
    violations.some(({ from, rule }) => rule.name === expected && Object.hasOwn(files, from))
  const unplanted = forbidden
    .map(({ name }) => name)
    .filter(name => !plants.some(({ expected }) => expected === name))
  return [
    ...plants
      .filter(plant => !isCaught(plant))
      .map(
        ({ expected, files }) => `${expected}: what was planted in ${Object.keys(files)[0]} was not caught`,
      ),
    ...unplanted.map(name => `${name}: no violation is planted for it`),
  ]
}

/**
 * The plants of the rules that are made in a loop: a room that sees the one after it, a package that sees a stranger.
 * @param {{name: string}} rule
 * @returns {Plant[]}
 */
function plantOf({ name }) {
  const room = /^room-(\w+)-sees-no-later-room$/.exec(name)?.[1]
  if (room) {
    const file = {
      [`apps/worker/src/${room}/planted.ts`]: typeImport('../compose.js'),
      'apps/worker/src/compose.ts': target,
    }
    return [{ expected: name, files: file }, ...laterRoom(room, name)]
  }
  const [, kind, directory, tests] =
    /^(apps|packages|infra|test)-(.+?)-(tests-import-only-the-kit|imports-only-its-own)$/.exec(name) ?? []
  if (!kind || !directory) return []
  const stranger = directory === 'worker' ? 'apps/board' : 'apps/worker'
  const file = `${kind}/${directory}/src/stranger${tests?.startsWith('tests') ? '.test' : ''}.ts`
  return [
    {
      expected: name,
      files: { [file]: typeImport(`../../../${stranger}/src/own.js`), [`${stranger}/src/own.ts`]: target },
    },
  ]
}

const roomsInOrder = ['intake', 'engine', 'workspace', 'execution', 'capture', 'report', 'cleanup']

/**
 * @param {string} room
 * @param {string} expected
 * @returns {Plant[]}
 */
function laterRoom(room, expected) {
  const later = roomsInOrder[roomsInOrder.indexOf(room) + 1]
  if (!later) return []
  return [
    {
      expected,
      files: {
        [`apps/worker/src/${room}/later.ts`]: typeImport(`../${later}/own.js`),
        [`apps/worker/src/${later}/own.ts`]: target,
      },
    },
  ]
}

/** @param {string} folder */
function missedLint(folder) {
  write(folder, {
    'apps/worker/src/floating.ts': 'const work = async () => 1\nwork()\nexport {}\n',
    'apps/worker/src/support/environment.ts': 'export const home = process.env.HOME\n',
    'apps/worker/src/config.ts': 'export const home = process.env.HOME\n',
    'apps/worker/src/support/format.ts': 'export const  a = "double"\n',
  })
  const oxlint = run(folder, 'oxlint', '--type-aware', 'apps/worker/src/floating.ts').stdout
  const biome = ['support/environment', 'config', 'support/format'].map(name => {
    const { stdout, stderr } = run(
      folder,
      'biome',
      'ci',
      '--colors=off',
      '--vcs-enabled=false',
      `apps/worker/src/${name}.ts`,
    )
    return stdout + stderr
  })
  return [
    ...(oxlint.includes('no-floating-promises')
      ? []
      : ['no-floating-promises: its planted violation was not caught']),
    ...(biome[0]?.includes('noProcessEnv') ? [] : ['noProcessEnv: its planted violation was not caught']),
    ...(biome[1]?.includes('noProcessEnv')
      ? ['noProcessEnv: config.ts may read the environment and was refused']
      : []),
    ...(biome[2]?.includes('format') ? [] : ['format: its planted violation was not caught']),
  ]
}

function missedRepositoryRules() {
  const planted = [
    ['a.test.ts', "it.sk\u0069p('x')"],
    ['a.test.ts', "f\u0069t('x')"],
    ['a.ts', '// TO\u0044O later'],
    ['a.md', 'see /wor\u006b/main'],
    ['pnpm-lock.yaml', 'tarball: https://mirror.example/x.tgz'],
    ['.npmrc', 'registry=https://mirror.example/'],
    ['a.md', 'get it from mirror.example'],
  ]
  return planted
    .filter(([file = '', line = '']) => problemsOfText(file, line, ['mirror.example']).length === 0)
    .map(([file, line]) => `repository rules: ${line} in ${file} was not caught`)
}

/**
 * @param {string} folder
 * @param {Record<string, string>} files
 */
function write(folder, files) {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}

/**
 * @param {string} cwd
 * @param {string} name of a program of node_modules
 * @param {...string} args
 */
function run(cwd, name, ...args) {
  return spawnSync(join(cwd, 'node_modules/.bin', name), args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
}
