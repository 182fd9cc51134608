import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { FastifyAdapter } from '@bull-board/fastify'
import type { Queue } from 'bullmq'
import type { FastifyInstance } from 'fastify'
import { QUEUES_POLICY } from './headers.js'
import type { Pages } from './pages.js'
import { redact } from './redact.js'

const QUEUES = '/queues'

/** What it asks of another site: its fonts. */
const FONTS = /<link href="https:[^>]*rel="stylesheet">/

/**
 * Bull Board on the runtime's queue, which only shows, in the look of the board's own pages.
 *
 * @param base the path that the board lives under, or nothing
 */
export async function addQueues(
  app: FastifyInstance,
  queue: Queue,
  base: string,
  { fileAt }: Pick<Pages, 'fileAt'>,
): Promise<void> {
  const serverAdapter = new FastifyAdapter().setBasePath(`${base}${QUEUES}`)
  createBullBoard({
    queues: [
      new BullMQAdapter(queue, {
        readOnlyMode: true,
        externalJobUrl: ({ id }) => ({
          displayText: 'Task',
          href: `${base}/tasks/${encodeURIComponent(String(id))}`,
        }),
      }),
    ],
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: 'Agirunner',
        boardLogo: { path: fileAt('mark.svg'), width: 18, height: 18 },
        favIcon: { default: fileAt('mark.svg'), alternative: fileAt('mark.svg') },
        hideDocsLink: true,
        miscLinks: [
          { text: 'Overview', url: `${base}/` },
          { text: 'Live containers', url: `${base}/containers` },
          { text: 'Tasks', url: `${base}/tasks` },
        ],
      },
    },
  })
  await app.register(
    async scope => {
      // The visitor is known by now; who is not let in gets the board's own page, with its own policy.
      scope.addHook('preHandler', async (_request, reply) => {
        reply.header('content-security-policy', QUEUES_POLICY)
      })
      // Bull Board's own formatters reach data, return value and name only; an answer is redacted as a whole instead:
      // failed reasons, stack traces, options, logs and messages of errors too.
      scope.addHook('preSerialization', async (_request, _reply, payload) => redact(payload))
      const look = `<link href="${fileAt('queues.css')}" rel="stylesheet"><script type="module" src="${fileAt('queues.js')}"></script>`
      scope.addHook('onSend', async (_request, _reply, payload) => {
        const isPage = typeof payload === 'string' && payload.startsWith('<!DOCTYPE html>')
        return isPage ? payload.replace(FONTS, '').replace('</head>', `${look}</head>`) : payload
      })
      await scope.register(serverAdapter.registerPlugin())
    },
    { prefix: QUEUES },
  )
}
