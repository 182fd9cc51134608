import { execFileSync } from 'node:child_process'
import {
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { pack } from './pack.js'
import { readTar } from './read-tar.js'
import { BLOCK, END_OF_ARCHIVE, encodeHeader, padding, TarError, type TarHeader } from './tar-header.js'
import { type Special, UNPACK_LIMITS, type UnpackLimits, unpack } from './unpack.js'

const signal = new AbortController().signal
const OTHER_USER = 12_345
const HUGE_UID = 3_000_000

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tar-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** Chunks of a few sizes, none of which is that of a block. */
async function* inChunks(bytes: Buffer, size = 1000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function all(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const chunk of chunks) parts.push(chunk)
  return Buffer.concat(parts)
}

/** What a shell makes in a folder, which is then archived as `repo`. */
function make(script: string): string {
  const folder = join(root, 'made')
  mkdirSync(folder)
  execFileSync('sh', ['-ec', script], { cwd: folder, stdio: 'pipe' })
  return folder
}

/** All that a tar archive keeps of a folder, one line for each entry. */
function look(folder: string): string {
  const format = String.raw`%P %y %m %U:%G %s %l %T@\0`
  const out = execFileSync('find', ['.', '-printf', format], { cwd: folder, encoding: 'latin1' })
  // A folder's size is its file system's matter.
  const lines = out.split('\0').map(line => line.replace(/( d \d+ \S+) \d+/, '$1'))
  return lines.toSorted().join('\n')
}

const HARD_CASES = `
  mkdir -p d/empty; umask 027; echo private >d/private; chmod 4755 d/private
  : >empty; head -c 511 /dev/zero >b511; head -c 512 /dev/zero >b512; head -c 700000 /dev/urandom >big
  ln -s nowhere link; ln -s ../../../outside out; ln -s "$(printf '%0300d' 1)" longlink
  long=$(printf '%0200d' 1); mkdir -p "$long/$long"; echo 1 >"$long/$long/$long"; echo 2 >"$(printf '%0100d' 2)"
  echo 3 >"$(printf '%099d' 3)"; mkdir "$(printf '%099d' 4)"; mkdir "$(printf '%0100d' 5)"
  printf 1 >"$(printf 'raw\\377\\200\\303')"; ln -s "$(printf '\\377')" rawlink; printf 2 >'a\\b'; printf 3 >"$(printf 'nl\\nx')"
  mkdir "$(printf '\\303\\266')"; printf 4 >"$(printf '\\303\\266/\\303\\266')"
  touch -d '2020-01-02 03:04:05.678901234' d/private; touch -d '1969-12-31 23:59:58' b511; touch -d '2100-01-01' b512
  touch -h -d '2001-01-01' link
  chown -h ${OTHER_USER}:${OTHER_USER} link d; chown ${HUGE_UID}:${HUGE_UID} empty`

interface Planned extends Partial<TarHeader> {
  readonly content?: string
}

/** An archive such as no task could make the engine write, but a broken or hostile engine might. */
function archiveOf(entries: readonly Planned[]): Buffer {
  const blocks = entries.flatMap(({ content = '', ...planned }) => {
    const body = Buffer.from(content)
    const header: TarHeader = {
      type: 'file',
      name: 'repo',
      link: '',
      mode: 0o644,
      uid: 0,
      gid: 0,
      size: body.length,
      mtimeNs: 0n,
      ...planned,
    }
    return [encodeHeader(header), body, padding(body.length)]
  })
  return Buffer.concat([...blocks, END_OF_ARCHIVE])
}

const TOP: Planned = { type: 'folder', name: 'repo' }

/** Damage that the checksum would show is no test of what comes after it. */
function mendChecksums(archive: Buffer): void {
  for (let at = 0; at < archive.length; at += BLOCK) {
    const block = archive.subarray(at, at + BLOCK)
    if (block.toString('latin1', 257, 262) !== 'ustar') continue
    block.write(' '.repeat(8), 148, 'latin1')
    const sum = block.reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  }
}

async function readAll(archive: Buffer): Promise<void> {
  for await (const { content } of readTar(inChunks(archive))) await all(content())
}

const PLAIN = { type: 'file', link: '', mode: 0o644, uid: 0, gid: 0, size: 0, mtimeNs: 0n } as const

describe('a packed folder', () => {
  test('is to GNU tar what it is on the disk, in every hard case', async () => {
    const made = make(HARD_CASES)
    const archive = await all(pack([{ path: made, name: 'repo' }], signal))
    execFileSync('tar', ['-xpf', '-', '--numeric-owner'], { cwd: root, input: archive, stdio: 'pipe' })
    expect(look(join(root, 'repo'))).toBe(look(made))
    expect(readFileSync(join(root, 'repo/big'))).toEqual(readFileSync(join(made, 'big')))
  })

  test('reads no further than it is read, and ends with its signal', async () => {
    const made = make('for i in $(seq 50); do head -c 100000 /dev/zero >$i; done')
    const controller = new AbortController()
    const chunks = pack([{ path: made, name: 'repo' }], controller.signal)
    const first = await chunks.next()
    expect(first.value?.length).toBeLessThan(1_000_000)
    rmSync(made, { recursive: true })
    await expect(all(chunks)).rejects.toThrow(/ENOENT/)
    mkdirSync(made)
    controller.abort(new Error('canceled'))
    await expect(all(pack([{ path: made, name: 'repo' }], controller.signal))).rejects.toThrow('canceled')
  })

  test('holds no file that is neither file nor folder nor link', async () => {
    const made = make('mkfifo fifo')
    await expect(all(pack([{ path: made, name: 'repo' }], signal))).rejects.toThrow('fifo')
  })
})

describe('an archive of another program', () => {
  test.each(['pax', 'gnu', 'posix'])('in the format %s is read as it was written', async format => {
    const made = make(HARD_CASES)
    const archive = join(root, 'archive')
    const args = [
      '--format',
      format,
      '--numeric-owner',
      '-cf',
      archive,
      '--transform',
      's,^made,repo,',
      'made',
    ]
    execFileSync('tar', args, { cwd: root, stdio: 'pipe' })
    const names: string[] = []
    for await (const { header } of readTar(inChunks(readFileSync(archive)))) names.push(header.name)
    const expected = execFileSync('find', ['.', '-printf', String.raw`%P\0`], {
      cwd: made,
      encoding: 'latin1',
    })
    const below = expected.split('\0').slice(0, -1)
    expect(names.toSorted()).toEqual(below.map(path => (path === '' ? 'repo' : `repo/${path}`)).toSorted())
  })

  test('a name that its old field holds up to a slash is still that of a file', async () => {
    // Programs cut there what is too long, and Docker's takes out what is not ASCII: of `repo/ö` that leaves `repo/`.
    const name = `repo/${'x'.repeat(94)}/f`
    const file: TarHeader = { ...PLAIN, name, size: 1 }
    const archive = Buffer.concat([encodeHeader(file), Buffer.from('1'), padding(1), END_OF_ARCHIVE])
    const found: TarHeader[] = []
    for await (const { header } of readTar(inChunks(archive))) found.push(header)
    expect(found).toEqual([file])
  })

  test('is read alike wherever its chunks are cut', async () => {
    const made = make('echo 1 >a; ln -s a "$(printf %0150d 1)"; head -c 2000 /dev/urandom >b')
    const archive = await all(pack([{ path: made, name: 'repo' }], signal))
    const read = async (chunks: AsyncIterable<Buffer>) => {
      const found: string[] = []
      for await (const { header, content } of readTar(chunks))
        found.push(`${header.name} ${header.link} ${(await all(content())).toString('hex')}`)
      return found
    }
    const whole = await read(inChunks(archive, archive.length))
    expect(whole).toHaveLength(4)
    for (const size of [1, 7, 511, 512, 513, 1024, 4096])
      expect(await read(inChunks(archive, size))).toEqual(whole)
  })

  test('that is damaged anywhere is read to an end or to an error of ours', async () => {
    const whole = archiveOf([
      TOP,
      { name: `repo/${'x'.repeat(150)}`, content: 'content' },
      { type: 'symlink', name: 'repo/a', link: 'x' },
    ])
    const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(damage, async changes => {
        const archive = Buffer.from(whole)
        for (const [at, byte] of changes) archive[at] = byte
        mendChecksums(archive)
        await readAll(archive).catch((error: unknown) => expect(error).toBeInstanceOf(TarError))
      }),
      { numRuns: 500, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: true },
    )
  })
})

describe('unpacking', () => {
  let into: string
  beforeEach(() => {
    into = join(root, 'into')
    mkdirSync(into)
    mkdirSync(join(root, 'outside'))
    writeFileSync(join(root, 'outside/file'), 'untouched')
  })

  const take = async (archive: Buffer, limits: Partial<UnpackLimits> = {}): Promise<Special[]> =>
    await unpack(inChunks(archive), {
      root: into,
      top: 'repo',
      limits: { ...UNPACK_LIMITS, ...limits },
      signal,
    })

  test('gives back what was packed, but for owners and rights', async () => {
    const made = make(HARD_CASES)
    expect(await take(await all(pack([{ path: made, name: 'repo' }], signal)))).toEqual([])
    const listing = (folder: string) =>
      execFileSync('find', ['.', '-printf', String.raw`%P %y %l\0`], { cwd: folder, encoding: 'latin1' })
        .split('\0')
        .toSorted()
    expect(listing(into)).toEqual(listing(made))
    expect(readFileSync(join(into, 'big'))).toEqual(readFileSync(join(made, 'big')))
    // Neither setuid nor anybody else's rights; whether the owner may execute it is kept.
    expect(lstatSync(join(into, 'd/private')).mode & 0o7777).toBe(0o700)
    expect(lstatSync(join(into, 'big')).mode & 0o7777).toBe(0o600)
  })

  const OUT = 'pwned'
  const through: Planned[] = [
    TOP,
    { type: 'symlink', name: 'repo/a', link: '../outside' },
    { name: `repo/a/${OUT}`, content: 'x' },
  ]
  const attacks: readonly [string, readonly Planned[]][] = [
    ['a path through a symlink', through],
    ['a name with ..', [TOP, { name: `repo/../outside/${OUT}`, content: 'x' }]],
    ['a name that begins with ..', [{ name: `../outside/${OUT}`, content: 'x' }]],
    [
      'a file over a symlink',
      [TOP, { type: 'symlink', name: 'repo/a', link: `../outside/${OUT}` }, { name: 'repo/a', content: 'x' }],
    ],
    [
      'a folder over a symlink',
      [
        TOP,
        { type: 'symlink', name: 'repo/a', link: '../outside' },
        { type: 'folder', name: 'repo/a' },
        { name: `repo/a/${OUT}`, content: 'x' },
      ],
    ],
    [
      'a hard link to what is outside, and its new content',
      [
        TOP,
        { type: 'hardlink', name: 'repo/a', link: 'repo/../outside/file' },
        { name: 'repo/a', content: 'x' },
      ],
    ],
    [
      'a hard link through a symlink',
      [
        TOP,
        { type: 'symlink', name: 'repo/a', link: '../outside' },
        { type: 'hardlink', name: 'repo/b', link: 'repo/a/file' },
      ],
    ],
    ['a file in place of the folder', [{ name: 'repo', content: 'x' }]],
    ['a symlink in place of the folder', [{ type: 'symlink', name: 'repo', link: '../outside' }]],
    ['a name of another folder', [TOP, { name: 'other/x', content: 'x' }]],
    ['a name without the folder', [{ name: 'repo/x', content: 'x' }]],
    ['an empty part of a name', [TOP, { name: 'repo//x', content: 'x' }]],
    ['the same name twice', [TOP, { name: 'repo/x', content: '1' }, { name: 'repo/x', content: '2' }]],
    ['a hard link to a folder', [TOP, { type: 'hardlink', name: 'repo/x', link: 'repo' }]],
  ]

  test.each(attacks)('refuses %s', async (_name, entries) => {
    await expect(take(archiveOf(entries))).rejects.toMatchObject({ code: 'capture.failed', phase: 'capture' })
    expect(readdirSync(join(root, 'outside'))).toEqual(['file'])
    expect(readFileSync(join(root, 'outside/file'), 'utf8')).toBe('untouched')
  })

  // The control: the same archives in the hands of one who trusts them.
  test.each(attacks.slice(0, 6))('which without its rules would let %s out', async (_name, entries) => {
    for await (const { header, content } of readTar(inChunks(archiveOf(entries)))) {
      const at = join(into, header.name.replace(/^repo\//, ''))
      if (header.type === 'folder') mkdirSync(at, { recursive: true })
      else if (header.type === 'symlink') symlinkSync(header.link, at)
      else if (header.type === 'hardlink') linkSync(join(into, header.link.replace(/^repo\//, '')), at)
      else writeFileSync(at, await all(content()))
    }
    const isHarmed = readFileSync(join(root, 'outside/file'), 'utf8') !== 'untouched'
    expect(isHarmed || readdirSync(join(root, 'outside')).includes(OUT)).toBe(true)
  })

  test('makes neither devices nor FIFOs, and tells them, through hard links too', async () => {
    const specials = await take(
      archiveOf([
        TOP,
        { type: 'fifo', name: 'repo/fifo' },
        { type: 'character_device', name: 'repo/null' },
        { type: 'block_device', name: 'repo/disk' },
        { type: 'hardlink', name: 'repo/again', link: 'repo/fifo' },
      ]),
    )
    expect(specials.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
      'fifo fifo',
      'character_device null',
      'block_device disk',
      'fifo again',
    ])
    expect(readdirSync(into)).toEqual([])
  })

  test('keeps hard links among its own files', async () => {
    await take(
      archiveOf([
        TOP,
        { name: 'repo/a', content: 'same' },
        { type: 'hardlink', name: 'repo/b', link: 'repo/a' },
      ]),
    )
    expect(readFileSync(join(into, 'b'), 'utf8')).toBe('same')
    expect(lstatSync(join(into, 'b')).nlink).toBe(2)
  })

  test.each<[string, Partial<UnpackLimits>, string]>([
    ['entries', { entries: 3 }, 'more than 3 entries'],
    ['written bytes', { writtenBytes: 30 }, 'more than 30 bytes'],
    ['received bytes', { receivedBytes: 2000 }, 'larger than 2000 bytes'],
  ])('gives up at its limit of %s', async (_name, limits, message) => {
    const files = Array.from({ length: 5 }, (_, index) => ({ name: `repo/${index}`, content: '0123456789' }))
    await expect(take(archiveOf([TOP, ...files]), limits)).rejects.toMatchObject({
      code: 'capture.failed',
      message: expect.stringContaining(message),
    })
    rmSync(into, { recursive: true })
    mkdirSync(into)
    expect(await take(archiveOf([TOP, ...files]))).toEqual([])
  })

  test('keeps of a file that is too large only how large it is, unless it is git its own', async () => {
    const git: Planned[] = [
      { type: 'folder', name: 'repo/.git' },
      { name: 'repo/.git/pack', content: '0123456789' },
    ]
    await take(archiveOf([TOP, { name: 'repo/big', content: '0123456789' }, ...git]), { hollowBytes: 9 })
    expect(readFileSync(join(into, 'big'))).toEqual(Buffer.alloc(10))
    expect(readFileSync(join(into, '.git/pack'), 'utf8')).toBe('0123456789')
  })

  test.each([1, 400, 512, 900, 1536])(
    'an archive that ends %i bytes too early is not taken for whole',
    async cut => {
      const archive = archiveOf([TOP, { name: 'repo/a', content: 'x'.repeat(600) }])
      const short = archive.subarray(0, archive.length - 512 - cut)
      await expect(take(short)).rejects.toMatchObject({ code: 'capture.failed' })
    },
  )

  test('a header that was changed on its way is told from a whole one', async () => {
    const archive = archiveOf([TOP, { name: 'repo/a', content: 'x' }])
    archive[512 + 5] = 0x21
    await expect(take(archive)).rejects.toMatchObject({ message: expect.stringContaining('checksum') })
  })

  test('ends with its signal', async () => {
    const controller = new AbortController()
    controller.abort(new Error('canceled'))
    const options = { root: into, top: 'repo', limits: UNPACK_LIMITS, signal: controller.signal }
    await expect(unpack(inChunks(archiveOf([TOP])), options)).rejects.toThrow('canceled')
  })
})
