import {
  type Catalog,
  type ImageReference,
  nearest,
  parseImageReference,
  TaskFailure,
} from '@agirunner/contracts'
import type { ImageInfo } from '../../engine/engine.js'

/**
 * The image that a task's `environment.image` names: an entry of the catalog, else a reference.
 *
 * @throws TaskFailure `spec.invalid` when it is neither
 */
export function resolveImage(catalog: Catalog, image: string): ImageReference {
  try {
    return parseImageReference(catalog.get(image)?.image ?? image)
  } catch (error) {
    const problem = `environment.image: "${image}" is no image reference: ${(error as Error).message}`
    throw new TaskFailure('spec.invalid', problem, hintOf(catalog, image))
  }
}

/** What a person may have meant by one word that is no image; `{}` when nothing is close. */
export function hintOf(catalog: Catalog, image: string): { hint?: string } {
  if (/[/:@.]/.test(image)) return {}
  const near = nearest(image, [...catalog.keys()])
  return near === null ? {} : { hint: `did you mean "${near}" of the catalog?` }
}

/** The repository in a name of an engine's, whichever form that engine uses; null for what is no name. */
export function repositoryOf(name: string): string | null {
  try {
    return parseImageReference(name).repository
  } catch {
    return null
  }
}

/** The digest under the repository of the reference: an image may have come from several. */
export function ownDigest(reference: ImageReference, { repoDigests }: ImageInfo): string | null {
  if (reference.digest !== null) return reference.text
  return repoDigests.find(digest => repositoryOf(digest) === reference.repository) ?? null
}

/** The same, or the image's id where no registry has it. */
export function digestOf(reference: ImageReference, info: ImageInfo): string {
  return ownDigest(reference, info) ?? info.id
}
