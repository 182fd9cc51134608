#!/usr/bin/env node
// Committed, so that a package manager can link it before anything is built.
import { existsSync } from 'node:fs'

const main = new URL('../dist/main.js', import.meta.url)

if (existsSync(main)) {
  const { runAsProgram } = await import(main.href)
  await runAsProgram()
} else {
  console.error(
    'error: agirunner is not built; packages/cli/dist is missing; run `npm run setup` in the checkout',
  )
  process.exitCode = 5
}
