import { type CatalogEntry, parseImageReference, readCatalog } from '@agirunner/contracts'
import type Docker from 'dockerode'
import type { Call } from '../command.js'
import { openEngine } from '../docker.js'
import { bad, type Finding, messageOf, ok } from './finding.js'

/** What tasks may name by one word, and which of it is on the engine's machine already. */
export async function checkCatalog({ settings }: Call): Promise<Finding[]> {
  try {
    const catalog = readCatalog(settings.env.AGIRUNNER_CATALOG ?? null)
    const { docker } = await openEngine(settings)
    return await Promise.all([...catalog].map(([name, entry]) => entryOf(docker, name, entry)))
  } catch (error) {
    return [
      bad('catalog', messageOf(error), 'correct the file that AGIRUNNER_CATALOG names, or start the engine'),
    ]
  }
}

async function entryOf(docker: Docker, name: string, { image, description }: CatalogEntry): Promise<Finding> {
  const there = await docker
    .getImage(parseImageReference(image).text)
    .inspect()
    .then(
      () => 'here',
      () => 'pulled when a task names it',
    )
  return ok('catalog', `${name}: ${image}, ${there}. ${description}`)
}
