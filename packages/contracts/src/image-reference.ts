/** Where an image is looked for whose reference names no registry. */
const DEFAULT_REGISTRY = 'docker.io'
/** The default registry keeps its own images below this. */
const OFFICIAL = 'library/'
const MAX_NAME = 255

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const PATH = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`)
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?'
const REGISTRY = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`)
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/
const IDENTIFIER = /^[0-9a-f]{64}$/

/** A reference to an image with everything in place that its short form leaves out. */
export interface ImageReference {
  /** Host and port, such as `docker.io` or `127.0.0.1:5000`. */
  readonly registry: string
  /** Without the registry, such as `library/debian`. */
  readonly path: string
  /** Null when a digest says which one it is. */
  readonly tag: string | null
  /** `sha256:…`, null when a tag says which one it is. */
  readonly digest: string | null
  /** Registry and path as engines write them: `debian`, `acme/app`, `127.0.0.1:5000/app`. */
  readonly repository: string
  /** `repository:tag` or `repository@digest`, never anything that an engine could take for an image's id. */
  readonly text: string
}

/**
 * Reads a reference as container engines do: `debian`, `acme/app:1`, `127.0.0.1:5000/app@sha256:…`. A digest wins over a
 * tag beside it.
 *
 * @throws Error that says what is wrong with it
 */
export function parseImageReference(reference: string): ImageReference {
  const [named = '', digest, ...more] = reference.split('@')
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest)))
    throw new Error('what follows "@" must be "sha256:" and 64 lower-case hex digits')
  const { name, tag } = splitTag(named)
  const { registry, path } = splitRegistry(name)
  checkName(registry, path)
  if (tag !== null && !TAG.test(tag))
    throw new Error(`the tag "${tag}" must be up to 128 letters, digits, "_", "." and "-"`)
  const repository = registry === DEFAULT_REGISTRY ? familiar(path) : `${registry}/${path}`
  if (digest !== undefined)
    return { registry, path, tag: null, digest, repository, text: `${repository}@${digest}` }
  const tagged = tag ?? 'latest'
  return { registry, path, tag: tagged, digest: null, repository, text: `${repository}:${tagged}` }
}

/** The last colon begins a tag, unless it belongs to the registry's port. */
function splitTag(named: string): { name: string; tag: string | null } {
  const colon = named.lastIndexOf(':')
  if (colon === -1 || named.includes('/', colon)) return { name: named, tag: null }
  return { name: named.slice(0, colon), tag: named.slice(colon + 1) }
}

/** The first part is a registry when it could be no part of a path: it has a dot or a port, or is `localhost`. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf('/')
  const first = slash === -1 ? '' : name.slice(0, slash)
  const isRegistry = /[.:]/.test(first) || first === 'localhost'
  if (isRegistry && first !== DEFAULT_REGISTRY && first !== `index.${DEFAULT_REGISTRY}`)
    return { registry: first, path: name.slice(slash + 1) }
  const path = isRegistry ? name.slice(slash + 1) : name
  return { registry: DEFAULT_REGISTRY, path: path.includes('/') ? path : `${OFFICIAL}${path}` }
}

function checkName(registry: string, path: string): void {
  if (!REGISTRY.test(registry)) throw new Error(`"${registry}" is no host of a registry`)
  if (!PATH.test(path))
    throw new Error(
      `the name "${familiar(path)}" must be lower-case letters and digits, separated by "/", ".", "_" and "-"`,
    )
  if (registry.length + 1 + path.length > MAX_NAME)
    throw new Error(`the name must be at most ${MAX_NAME} characters long`)
  // An engine would take it for an image's id, and an id asks no registry whether it may be had.
  const short = familiar(path)
  if (registry === DEFAULT_REGISTRY && (IDENTIFIER.test(short) || short === 'sha256'))
    throw new Error('an image is named by its repository, not by its id')
}

function familiar(path: string): string {
  const rest = path.startsWith(OFFICIAL) ? path.slice(OFFICIAL.length) : path
  return rest.includes('/') ? path : rest
}
