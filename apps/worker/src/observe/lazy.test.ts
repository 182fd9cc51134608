import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'

/** Packages that a worker has in memory once all of its own code is loaded, and `also` besides. */
function loadedBy(also: string): string[] {
  const compose = fileURLToPath(new URL('../compose.js', import.meta.url))
  const program = `
    import { createRequire } from 'node:module'
    await import(${JSON.stringify(compose)})
    ${also}
    const files = Object.keys(createRequire(${JSON.stringify(compose)}).cache)
    console.log(JSON.stringify([...new Set(files.flatMap(file => file.match(/(@opentelemetry\\/[\\w-]+|prom-client)(?=\\/)/g) ?? []))]))
  `
  const args = ['--input-type=module', '--eval', program]
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as string[]
}

describe('what watches a worker', () => {
  it('is not even loaded until somebody asks for it', () => {
    expect(loadedBy('')).toEqual([])
  })

  it('would be seen here (control)', () => {
    const tracing = fileURLToPath(new URL('./tracing.js', import.meta.url))
    const settings = JSON.stringify({ exporter: 'otlp', protocol: 'http/json' })
    const open = `const { openTracing } = await import(${JSON.stringify(tracing)})
      await openTracing(${settings}, { worker: 'w', log: { warn() {} } })`
    expect(loadedBy(open)).toEqual(
      expect.arrayContaining(['@opentelemetry/api', '@opentelemetry/sdk-trace-base']),
    )
  })
})
