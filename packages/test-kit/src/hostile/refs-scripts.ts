import { FLUSH, pktLine } from './pkt-line.js'
import { HONEST, type RawRef, refsAt } from './protocol.js'
import type { Answer, Script } from './script.js'

const { oid } = HONEST.commit

/** The honest refs, and one more for each name. */
const alsoNamed = (...names: readonly string[]): Script => ({
  offer: { refs: [...refsAt(oid), ...names.map(name => ({ name, oid }))] },
})

const headAt = (target: string): Script => ({
  offer: { refs: refsAt(oid).map(ref => (ref.name === 'HEAD' ? { ...ref, target } : ref)) },
})

function* manyRefs(count: number): Generator<RawRef> {
  for (let index = 0; index < count; index += 1) yield { name: `refs/heads/b-${index}`, oid }
}

const raw =
  (...pieces: readonly Buffer[]): Answer =>
  ({ response }) =>
    response.end(Buffer.concat(pieces))

const service = pktLine('# service=git-upload-pack\n')

/** What is wrong with the refs or with the lines that tell them. */
export const REFS_SCRIPTS = {
  'many-refs': { offer: { refs: [...refsAt(oid), ...manyRefs(100_000)] } },
  'refs-of-objects': alsoNamed('refs/heads/__proto__', 'refs/heads/constructor'),
  'ref-with-newline': alsoNamed('refs/heads/a\nb'),
  'ref-with-dots': alsoNamed('refs/heads/../../../escaped'),
  'ref-with-nul': alsoNamed('refs/heads/a\0b'),
  'ref-of-4000-bytes': alsoNamed(`refs/heads/${'long/'.repeat(800)}end`),
  'head-with-newline': headAt('refs/heads/x\n\tevil = true'),
  'head-with-dots': headAt('refs/heads/../../config'),
  'head-at-no-ref': headAt('/etc/passwd'),
  'head-of-long-name': headAt(`refs/heads/${'x'.repeat(60_000)}`),
  'id-that-is-a-path': {
    listing: raw(pktLine(`../../../../../../var/tmp/evil refs/heads/main\n`), FLUSH),
  },
  'ids-that-are-none': { listing: raw(pktLine('z'.repeat(40).concat(' refs/heads/main\n')), FLUSH) },
  'length-of-3': { listing: raw(Buffer.from('0003')) },
  'length-of-no-hex': { listing: raw(Buffer.from('zzzz'), Buffer.from('refs')) },
  'length-beyond-the-end': { listing: raw(pktLine(`${oid} HEAD\n`, '0fff')) },
  'length-above-the-limit': { listing: raw(pktLine(Buffer.alloc(65_531, 'x'), 'ffff'), FLUSH) },
  'empty-lines': { listing: raw(Buffer.from('0004'.repeat(1000)), FLUSH) },
  'no-end-of-a-listing': { listing: raw(pktLine(`${oid} HEAD\n`)) },
  'version-2-unasked': {
    discovery: ({ request, response, honest }) =>
      response.end(
        request.headers['git-protocol'] === undefined
          ? Buffer.concat([pktLine('version 2\n'), FLUSH])
          : honest,
      ),
  },
  'error-for-refs': {
    discovery: raw(service, FLUSH, pktLine('ERR access denied or repository not exported\n')),
  },
  'error-for-a-listing': { listing: raw(pktLine('ERR the disk is full\n')) },
} satisfies Record<string, Script>
