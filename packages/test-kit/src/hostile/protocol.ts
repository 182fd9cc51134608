import { rawBlob, rawCommit, rawTree } from './objects.js'
import { packEntry, packOf } from './pack.js'
import { bandLines, FLUSH, pktLine } from './pkt-line.js'

/** A ref as a server tells it; nothing of it is checked. */
export interface RawRef {
  readonly name: string
  readonly oid: string
  /** What an annotated tag leads to in the end. */
  readonly peeled?: string
  /** What HEAD stands for. */
  readonly target?: string
}

/** What a server offers. */
export interface Offer {
  readonly refs: readonly RawRef[]
  readonly pack: Buffer
}

const blob = rawBlob('a\n')
const tree = rawTree([{ mode: '100644', name: 'a', oid: blob.oid }])
const commit = rawCommit(tree.oid)
/** A repository of one commit of one file `a` with the content `a\n`. */
export const HONEST = { blob, tree, commit, entries: [commit, tree, blob].map(packEntry) }

/** HEAD and main at one commit. */
export function refsAt(oid: string): RawRef[] {
  return [
    { name: 'HEAD', oid, target: 'refs/heads/main' },
    { name: 'refs/heads/main', oid },
  ]
}

export const HONEST_OFFER: Offer = { refs: refsAt(commit.oid), pack: packOf(HONEST.entries) }

const CAPABILITIES =
  'multi_ack_detailed no-done side-band-64k thin-pack ofs-delta shallow include-tag allow-tip-sha1-in-want allow-reachable-sha1-in-want symref=HEAD:refs/heads/main object-format=sha1 agent=git/2'

/** The answer to `GET info/refs`: the refs for protocols 0 and 1, the abilities for 2. */
export function discovery({ refs }: Offer, version: 0 | 2): Buffer {
  const service = [pktLine('# service=git-upload-pack\n'), FLUSH]
  if (version === 2) {
    const abilities = ['version 2', 'agent=git/2', 'ls-refs', 'fetch=shallow', 'object-format=sha1']
    return Buffer.concat([...service, ...abilities.map(line => pktLine(`${line}\n`)), FLUSH])
  }
  const lines = refs.flatMap(({ name, oid, peeled }) => [
    `${oid} ${name}`,
    ...(peeled === undefined ? [] : [`${peeled} ${name}^{}`]),
  ])
  const withAbilities = lines.map((line, index) => (index === 0 ? `${line}\0${CAPABILITIES}` : line))
  return Buffer.concat([...service, ...withAbilities.map(line => pktLine(`${line}\n`)), FLUSH])
}

/** The answer to protocol 2's `ls-refs`. */
export function listing({ refs }: Offer): Buffer {
  const lines = refs.map(({ name, oid, peeled, target }) => {
    const more = [target && ` symref-target:${target}`, peeled && ` peeled:${peeled}`]
    return pktLine(`${oid} ${name}${more.map(one => one ?? '').join('')}\n`)
  })
  return Buffer.concat([...lines, FLUSH])
}

/** What comes before the pack: the end of the negotiation. @param body the request's */
export function negotiation(body: string): Buffer {
  if (body.includes('command=fetch')) return pktLine('packfile\n')
  return Buffer.concat([...(body.includes('deepen ') ? [FLUSH] : []), pktLine('NAK\n')])
}

/** The answer to a fetch. */
export function fetched({ pack }: Offer, body: string): Buffer {
  return Buffer.concat([negotiation(body), ...bandLines(pack), FLUSH])
}
