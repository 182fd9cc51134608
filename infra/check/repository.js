import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The largest file that the repository takes, in bytes. */
const MAX_BYTES = 1024 * 1024

/**
 * What no line of a text file may hold. The patterns are written so that they don't match themselves.
 * @type {{rule: string, pattern: RegExp, in?: RegExp, notIn?: RegExp}[]}
 */
const FORBIDDEN_LINES = [
  {
    rule: 'a test is skipped, focused or not written',
    pattern: /\b(it|test|describe)\.(skip|only|todo|failing)\b|\b(xit|xtest|xdescribe|fit|fdescribe)\(/,
    in: /\.test\.[jt]s$/,
  },
  { rule: 'a note stands for work not done', pattern: /\b(TO[D]O|FIXM[E]|XX[X]|HAC[K])\b/ },
  { rule: "a path of somebody's machine", pattern: /(?<![\w.})$-])\/(wor[k]|Users\/\w+)\// },
  // A lock file or a configuration made behind a mirror names it, and then installs nowhere else.
  {
    rule: 'a registry is named',
    pattern: /\btarball:\s*http|^\s*(@[\w-]+:)?registry\s*[=:]/,
    in: /(^|\/)(pnpm-lock|pnpm-workspace)\.yaml$|npmrc$/,
  },
]

/**
 * Holds every file that is or would be tracked to the rules of this repository that no other tool knows.
 * @param {string} root
 * @returns {Promise<string[]>} one line for each problem: `file:line: rule`
 */
export async function problemsOfRepository(root) {
  const files = await trackedFiles(root)
  const hosts = await registryHosts(root)
  const perFile = await Promise.all(files.map(file => problemsOfFile(root, file, hosts)))
  return [...perFile.flat(), ...(await undocumentedFailures(root))]
}

/** @param {string} root */
async function trackedFiles(root) {
  const list = await output('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], root)
  return [...new Set(list.split('\0'))].filter(file => file !== '')
}

/**
 * @param {string} root
 * @param {string} file
 * @param {readonly string[]} hosts
 */
async function problemsOfFile(root, file, hosts) {
  const info = await stat(join(root, file)).catch(() => null)
  // Deleted and not yet committed, or a link to a folder.
  if (!info?.isFile()) return []
  if (info.size > MAX_BYTES) return [`${file}: larger than ${MAX_BYTES} bytes`]
  const bytes = await readFile(join(root, file))
  if (bytes.includes(0)) return []
  return problemsOfText(file, bytes.toString('utf8'), hosts)
}

/**
 * @param {string} file its path, for the message and for rules that hold for some files only
 * @param {string} text
 * @param {readonly string[]} host names that must not be in it
 */
export function problemsOfText(file, text, hosts) {
  const rules = FORBIDDEN_LINES.filter(rule => rule.in?.test(file) ?? true)
  return text.split('\n').flatMap((line, index) => {
    const broken = rules.filter(({ pattern }) => pattern.test(line)).map(({ rule }) => rule)
    if (hosts.some(host => line.includes(host))) broken.push('a package registry is named by its host')
    return broken.map(rule => `${file}:${index + 1}: ${rule}`)
  })
}

/**
 * The package registries that this machine is set up with: one person's choice, which the project must not make for others.
 * @param {string} root
 */
async function registryHosts(root) {
  const npm = await output('npm', ['config', 'get', 'registry'], root).catch(() => '')
  const apt = await output(
    'sh',
    ['-c', 'cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true'],
    root,
  )
  const hosts = [npm, apt].flatMap(text =>
    [...text.matchAll(/https?:\/\/(?:[^\s/@]*@)?([^\s/:]+)/g)].map(([, host]) => host ?? ''),
  )
  return [...new Set(hosts)].filter(host => host.includes('.'))
}

/** @param {string} root */
async function undocumentedFailures(root) {
  const { FAILURE_CODES } = await import('../../packages/contracts/dist/index.js')
  const readme = await readFile(join(root, 'packages/contracts/README.md'), 'utf8')
  return FAILURE_CODES.filter(code => !readme.includes(`\`${code}\``)).map(
    code => `packages/contracts/README.md: ${code} is not documented`,
  )
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {string} cwd
 */
async function output(program, args, cwd) {
  const { stdout } = await promisify(execFile)(program, args, { cwd, maxBuffer: 64 * 1024 * 1024 })
  return stdout
}
