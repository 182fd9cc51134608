import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Refusal } from './errors.js'
import { strictPolicy } from './headers.js'

/** What the pages import by name, served below `assets/vendor/`. */
const VENDOR = ['preact', 'preact/hooks', 'preact/jsx-runtime']
const SCRIPTS = fileURLToPath(new URL('./web/', import.meta.url))
const STYLES = fileURLToPath(new URL('../web/', import.meta.url))
const TYPES: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

interface Asset {
  readonly bytes: Buffer
  readonly type: string
  readonly etag: string
}

export interface Pages {
  /** The one page of the board, which becomes all of them; for somebody not logged in it is the login. */
  readonly send: (reply: FastifyReply) => Promise<void>
  /** The policy of answers that say no other. */
  readonly policy: string
  /** Where one of their files is, such as `/agirunner/assets/…/mark.svg`. */
  readonly fileAt: (path: string) => string
}

/**
 * The board's own pages and their files. The files are read once, when the board starts: what is not among them can't be
 * asked for, whatever the address says.
 *
 * @param base the path that the board lives under, such as `/agirunner`, or nothing
 */
export function addPages(app: FastifyInstance, base: string): Pages {
  const assets = readAssets()
  const version = versionOf(assets)
  const fileAt = (path: string) => `${base}/assets/${version}/${path}`
  const imports = JSON.stringify({
    imports: Object.fromEntries(VENDOR.map(name => [name, fileAt(vendorPath(name))])),
  })
  const policy = strictPolicy(createHash('sha256').update(imports).digest('base64'))
  const html = shell(base, imports, version)
  const send = async (reply: FastifyReply) => {
    await reply.header('content-security-policy', policy).type('text/html; charset=utf-8').send(html)
  }
  for (const path of ['/', '/containers', '/tasks', '/tasks/:id']) {
    app.get(path, async (_request, reply) => await send(reply))
  }
  app.setNotFoundHandler(async ({ headers, method }, reply) => {
    reply.code(404)
    // The page says it to a person.
    if (method === 'GET' && headers.accept?.includes('text/html')) return await send(reply)
    await reply.send({ error: 'there is nothing at this address' })
  })
  addAssets(app, assets, version)
  return { send, policy, fileAt }
}

/** Under the version of all of them a file is kept by the browser: another one has another address. */
function addAssets(app: FastifyInstance, assets: ReadonlyMap<string, Asset>, version: string): void {
  app.get<{ Params: { '*': string } }>('/assets/*', { config: { open: true } }, async (request, reply) => {
    const { '*': path } = request.params
    const isVersioned = path.startsWith(`${version}/`)
    const asset = assets.get(isVersioned ? path.slice(version.length + 1) : path)
    if (!asset) throw new Refusal(404, 'there is no such file')
    reply
      .header('cache-control', isVersioned ? 'public, max-age=31536000, immutable' : 'no-cache')
      .header('etag', asset.etag)
    if (request.headers['if-none-match'] === asset.etag) return await reply.code(304).send()
    return await reply.type(asset.type).send(asset.bytes)
  })
}

function versionOf(assets: ReadonlyMap<string, Asset>): string {
  const all = [...assets].map(([path, { etag }]) => `${path} ${etag}`).toSorted()
  return createHash('sha256').update(all.join('\n')).digest('base64url').slice(0, 16)
}

function readAssets(): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>()
  for (const name of VENDOR) {
    assets.set(vendorPath(name), readAsset(fileURLToPath(import.meta.resolve(name))))
  }
  for (const [folder, type] of [
    [SCRIPTS, '.js'],
    [STYLES, '.css'],
    [STYLES, '.svg'],
  ] as const) {
    const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    for (const path of paths.filter(name => extname(name) === type && !name.endsWith('.test.js'))) {
      assets.set(path.split(sep).join('/'), readAsset(join(folder, path)))
    }
  }
  return assets
}

function readAsset(file: string): Asset {
  const bytes = readFileSync(file)
  const type = TYPES[extname(file).replace('mjs', 'js')] ?? 'application/octet-stream'
  return { bytes, type, etag: `"${createHash('sha256').update(bytes).digest('base64url')}"` }
}

function vendorPath(name: string): string {
  return `vendor/${name.replaceAll('/', '-')}.js`
}

function shell(base: string, imports: string, version: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<base href="${base}/">
<title>Agirunner</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%230b6bcb'/%3E%3Cpath d='M5 4l7 4-7 4z' fill='white'/%3E%3C/svg%3E">
<link rel="stylesheet" href="assets/${version}/style.css">
<script type="importmap">${imports}</script>
<script type="module" src="assets/${version}/boot.js"></script>
</head>
<body><noscript>The board needs JavaScript.</noscript></body>
</html>
`
}
