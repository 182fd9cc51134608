import { mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { installPackages } from '../src/apt.js'
import { ensureBuilt, ensurePackages, setUp } from '../src/index.js'
import { recordedLog, temporaryFolders } from './support.js'

const newFolder = temporaryFolders()
const env = { PATH: '', HOME: '/nonexistent', AGIRUNNER_NO_INSTALL: 'yes' }

/** A checkout with a lockfile and, made earlier or later, installed packages. */
function newCheckout({ installedAt = 0 } = {}) {
  const root = newFolder()
  const devEngines = { packageManager: { name: 'pnpm', version: '1.2.3' } }
  writeFileSync(join(root, 'package.json'), JSON.stringify({ devEngines }))
  writeFileSync(join(root, 'pnpm-lock.yaml'), '')
  utimesSync(join(root, 'pnpm-lock.yaml'), 1000, 1000)
  if (installedAt > 0) {
    mkdirSync(join(root, 'node_modules'))
    writeFileSync(join(root, 'node_modules', '.modules.yaml'), '')
    utimesSync(join(root, 'node_modules', '.modules.yaml'), installedAt, installedAt)
  }
  return { root, env, dataDir: newFolder(), ...recordedLog() }
}

test('packages as old as the lockfile or younger are left alone', async () => {
  const checkout = newCheckout({ installedAt: 1000 })
  expect(await ensurePackages(checkout)).toBe(false)
  expect(checkout.lines).toEqual(['setup: packages: as the lockfile says'])
})

test.each([0, 999])(
  'with AGIRUNNER_NO_INSTALL, missing or old packages are a failure that says what to run',
  async at => {
    const checkout = newCheckout({ installedAt: at })
    const error = await ensurePackages(checkout).catch(e => e)
    expect(error).toMatchObject({ code: 'packages.missing' })
    expect(error.message).toMatch('npx -y pnpm@1.2.3 install --frozen-lockfile')
  },
)

test('a build that fails shows what the compiler said', async () => {
  const checkout = newCheckout()
  mkdirSync(join(checkout.root, 'node_modules', '.bin'), { recursive: true })
  const tsc = '#!/bin/sh\necho "a.ts(1,1): error TS1: wrong"\nexit 2\n'
  writeFileSync(join(checkout.root, 'node_modules', '.bin', 'tsc'), tsc, { mode: 0o755 })
  const error = await ensureBuilt(checkout).catch(e => e)
  expect(error).toMatchObject({ code: 'build.failed' })
  expect(error.message).toMatch('  | a.ts(1,1): error TS1: wrong')
})

test('with AGIRUNNER_NO_INSTALL no Debian package is installed', async () => {
  const asked = installPackages({ packages: ['a', 'b'], dataDir: newFolder(), env, say: () => {} })
  await expect(asked).rejects.toMatchObject({
    code: 'install.forbidden',
    message: "can't install a, b; AGIRUNNER_NO_INSTALL forbids installing; run `apt-get install a b` as root",
  })
})

test('a data folder that can not be made is a failure that names AGIRUNNER_DATA', async () => {
  const file = join(newFolder(), 'file')
  writeFileSync(file, '')
  const asked = setUp({
    root: '/',
    env: { ...env, AGIRUNNER_DATA: join(file, 'data') },
    log: () => {},
    needs: ['redis'],
  })
  await expect(asked).rejects.toMatchObject({
    code: 'data.unwritable',
    message: expect.stringContaining('set AGIRUNNER_DATA to a folder that you can write to'),
  })
})

test('a set-up that was asked to stop goes no further', async () => {
  const signal = AbortSignal.abort()
  const asked = setUp({ root: '/', env: { ...env, AGIRUNNER_DATA: newFolder() }, log: () => {}, signal })
  await expect(asked).rejects.toMatchObject({ code: 'aborted' })
})
