import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { parseImageReference } from './image-reference.js'

const MAX_ENTRIES = 500
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/

const EntrySchema = z.strictObject({
  image: z.string().superRefine((reference, context) => {
    try {
      parseImageReference(reference)
    } catch (error) {
      context.addIssue({ code: 'custom', message: `is no image reference: ${(error as Error).message}` })
    }
  }),
  description: z.string().min(1).max(1024),
  holds: z.array(z.string().min(1).max(128)).max(200).default([]),
})

const CatalogSchema = z
  .record(z.string().regex(NAME, 'must be lower-case letters, digits, ".", "_" and "-"'), EntrySchema)
  .refine(entries => Object.keys(entries).length <= MAX_ENTRIES, `must have at most ${MAX_ENTRIES} entries`)

/** An image that tasks may name by one word. */
export type CatalogEntry = z.output<typeof EntrySchema>
/** By the name that a task uses. */
export type Catalog = ReadonlyMap<string, CatalogEntry>

/** The name that tasks get which name no image. */
export const DEFAULT_IMAGE = 'debian-base'

const STARTERS = fileURLToPath(new URL('../catalog.json', import.meta.url))

/**
 * Reads a catalog: an object whose keys are names and whose values are `{image, description, holds}`.
 *
 * @param path of the operator's own file; null for the starters
 * @throws Error with one line for each thing that is wrong
 */
export function readCatalog(path: string | null): Catalog {
  const file = path ?? STARTERS
  const parsed = CatalogSchema.safeParse(parse(readFileSync(file, 'utf8')))
  if (parsed.success) return new Map(Object.entries(parsed.data))
  const problems = parsed.error.issues.map(describe)
  throw new Error(`${file} is no catalog of images: ${problems.join('; ')}`)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`it is no JSON: ${(error as Error).message}`, { cause: error })
  }
}

function describe(issue: z.core.$ZodIssue): string {
  const at = issue.path.map(String).join('.')
  const inner = issue.code === 'invalid_key' ? issue.issues[0]?.message : undefined
  return `${at || 'it'}: ${inner ?? issue.message}`
}
