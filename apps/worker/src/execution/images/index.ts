import type { Capability, Catalog } from '@agirunner/contracts'
import type { ContainerEngine } from '../../engine/engine.js'
import { ImageAccess } from './access.js'
import { DockerConfig } from './docker-config.js'
import { Images } from './images.js'
import { KnownImages } from './known-images.js'
import { Verification, type VerificationOptions } from './verification.js'

export interface ImageSettings {
  readonly dataDir: string
  readonly catalog: Catalog
  readonly dockerConfigDir: string
  readonly pullIdleMs: number
  /** Whether the engine is on this machine: one elsewhere may fall silent without anybody hearing of it. */
  readonly isLocal: boolean
}

/** Joins what this room needs to hand out images. */
export async function createImages(
  { dataDir, catalog, dockerConfigDir, pullIdleMs, isLocal }: ImageSettings,
  { engine, info, owner }: Pick<VerificationOptions, 'engine' | 'info' | 'owner'>,
) {
  const access = new ImageAccess({ engine, dataDir, worker: owner.worker })
  await access.open()
  const dockerConfig = new DockerConfig(dockerConfigDir)
  const known = isLocal ? new KnownImages(engine) : askingEachTime(engine)
  const capability: Capability = {
    name: 'private images',
    state: 'enforced',
    detail: `what came by one tenant's credentials is given to others only when its registry gives it to them; catalog: ${[...catalog.keys()].join(', ')}`,
    fix: null,
  }
  return {
    images: new Images({ engine, images: known, catalog, access, dockerConfig, pullIdleMs }),
    verification: new Verification({ engine, info, owner, dataDir }),
    capability,
    release: async () => await known.release(),
  }
}

function askingEachTime(engine: ContainerEngine) {
  return {
    image: (reference: string) => engine.image(reference),
    forget: () => undefined,
    release: () => Promise.resolve(),
  }
}
