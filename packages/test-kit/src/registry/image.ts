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

/**
 * A layer with these files, each of which everybody may read and run.
 *
 * @param files path without a leading slash → content
 */
export function layerOf(files: Readonly<Record<string, Buffer | string>>): Buffer {
  const entries = Object.entries(files).flatMap(([path, content]) => {
    const bytes = Buffer.from(content)
    return [tarHeader(path, bytes.length), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]
  })
  return Buffer.concat([...entries, Buffer.alloc(1024)])
}

/** A header of the oldest form, which every reader knows. */
function tarHeader(path: string, size: number): Buffer {
  const header = Buffer.alloc(512)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  header.write(path, 0, 100)
  header.write(octal(0o755, 7), 100)
  header.write(octal(0, 7) + octal(0, 7), 108)
  header.write(octal(size, 11) + octal(0, 11), 124)
  header.write('        0', 148)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
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
