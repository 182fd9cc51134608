import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Machine } from './machine.js'
import type { Found } from './suite.js'
import type { Target } from './target.js'

/** What `bench-results/<date>.json` holds: every sample, and what the figures depend on. */
export interface Report {
  readonly at: string
  readonly seconds: number
  readonly machine: Machine
  /** How the worker gave workspaces to containers. */
  readonly strategy: string
  readonly targets: readonly Target[]
  readonly suites: Readonly<Record<string, Found>>
  /** Suites without figures, and why. */
  readonly notMeasured: Readonly<Record<string, string>>
}

export function targetsOf(suites: Report['suites']): Target[] {
  return Object.values(suites).flatMap(({ targets }) => targets ?? [])
}

export async function writeReport(file: string, report: Partial<Report>): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, `${JSON.stringify(report, null, 2)}\n`)
}
