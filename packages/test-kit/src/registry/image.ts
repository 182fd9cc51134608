import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'

/** An image as a test describes it. */
export interface TestImage {
  /** Plain tar archives, the lowest first. */
  readonly layers: readonly Buffer[]
  /** `Config` of the image: `Env`, `Entrypoint`, `Volumes` and the like. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Such as `linux/arm64`; by default this machine's own. */
  readonly platform?: string
}

export interface Blob {
  readonly mediaType: string
  readonly digest: string
  readonly bytes: Buffer
}

/** An image as a registry serves it. */
export interface BuiltImage {
  readonly manifest: Blob
  readonly blobs: readonly Blob[]
}

const DOCKER = 'application/vnd.docker'

/** The platform of containers on this machine, as engines write it. */
export function ownPlatform(): string {
  const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
  return `linux/${architectures[process.arch] ?? process.arch}`
}

export function buildImage({ layers, config = {}, platform = ownPlatform() }: TestImage): BuiltImage {
  const [os, architecture] = platform.split('/')
  const packed = layers.map(layer => blob(`${DOCKER}.image.rootfs.diff.tar.gzip`, gzipSync(layer)))
  const image = blob(
    `${DOCKER}.container.image.v1+json`,
    json({
      os,
      architecture,
      config,
      created: '2024-01-01T00:00:00Z',
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
      history: layers.map(() => ({ created: '2024-01-01T00:00:00Z', created_by: 'test' })),
    }),
  )
  const mediaType = `${DOCKER}.distribution.manifest.v2+json`
  const manifest = { schemaVersion: 2, mediaType, config: entry(image), layers: packed.map(entry) }
  return { manifest: blob(mediaType, json(manifest)), blobs: [image, ...packed] }
}

/** One name for images of several platforms. */
export function buildIndex(images: readonly { image: BuiltImage; platform: string }[]): BuiltImage {
  const mediaType = `${DOCKER}.distribution.manifest.list.v2+json`
  const manifests = images.map(({ image: { manifest }, platform }) => {
    const [os, architecture] = platform.split('/')
    return { ...entry(manifest), platform: { os, architecture } }
  })
  const all = images.flatMap(({ image }) => [image.manifest, ...image.blobs])
  return { manifest: blob(mediaType, json({ schemaVersion: 2, mediaType, manifests })), blobs: all }
}

function entry({ mediaType, digest, bytes }: Blob) {
  return { mediaType, digest, size: bytes.length }
}

function blob(mediaType: string, bytes: Buffer): Blob {
  return { mediaType, digest: digestOf(bytes), bytes }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
