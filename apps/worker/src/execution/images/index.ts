import type { Capability, Catalog } from '@agirunner/contracts'
import { ImageAccess } from './access.js'
import { DockerConfig } from './docker-config.js'
import { Images } from './images.js'
import { Verification, type VerificationOptions } from './verification.js'

export interface ImageSettings {
  readonly dataDir: string
  readonly catalog: Catalog
  readonly dockerConfigDir: string
  readonly pullIdleMs: number
}

/** Joins what this room needs to hand out images. */
export async function createImages(
  { dataDir, catalog, dockerConfigDir, pullIdleMs }: ImageSettings,
  { engine, info, owner }: Pick<VerificationOptions, 'engine' | 'info' | 'owner'>,
) {
  const access = new ImageAccess({ engine, dataDir, worker: owner.worker })
  await access.open()
  const dockerConfig = new DockerConfig(dockerConfigDir)
  const capability: Capability = {
    name: 'private images',
    state: 'enforced',
    detail: `what came by one tenant's credentials is given to others only when its registry gives it to them; catalog: ${[...catalog.keys()].join(', ')}`,
    fix: null,
  }
  return {
    images: new Images({ engine, catalog, access, dockerConfig, pullIdleMs }),
    verification: new Verification({ engine, info, owner, dataDir }),
    capability,
  }
}
