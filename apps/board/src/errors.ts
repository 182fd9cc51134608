import {
  ArtifactUnavailableError,
  PatchUnavailableError,
  RedisUnavailableError,
  TaskConflictError,
  UnknownTaskError,
} from '@agirunner/producer'
import type { FastifyError, FastifyInstance } from 'fastify'
import { redactText } from './redact.js'

/** A refusal with its status, 400 or more; the message is shown as it is, but for secrets. */
export class Refusal extends Error {
  readonly statusCode: number

  constructor(statusCode: number, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'Refusal'
    this.statusCode = statusCode
  }
}

/**
 * Asks Redis, and waits for so long at most.
 *
 * @throws Refusal 503, whatever is wrong with Redis
 */
export async function fromRedis<T>(answer: Promise<T>): Promise<T> {
  try {
    return await soon(answer)
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw unavailable((error as Error).message, error)
  }
}

/** Waits for what needs several answers of Redis, for so long at most in all. @throws Refusal 503 */
export async function soon<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(unavailable(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS)
  })
  return await Promise.race([answer, patience]).finally(() => clearTimeout(timer))
}

function unavailable(why: string, cause?: unknown): Refusal {
  return new Refusal(503, `Redis does not answer; ${why}; try again, or look after Redis`, cause)
}

/** How long a page may wait for Redis, in milliseconds: then it says so instead. */
const ANSWER_MS = 4500

/** Every refusal below `app` is `{ error }`. */
export function refuseInJson(app: FastifyInstance): void {
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    const status = statusOf(error)
    if (status === 500) request.log.error({ error: redactText(String(error.stack)) }, 'the board failed')
    const message = status === 500 ? 'the board failed; its log says why' : redactText(error.message)
    await reply.code(status).send({ error: message })
  })
}

function statusOf(error: FastifyError): number {
  if (error instanceof UnknownTaskError) return 404
  if (error instanceof TaskConflictError) return 409
  if (error instanceof RedisUnavailableError) return 503
  if (error instanceof PatchUnavailableError || error instanceof ArtifactUnavailableError) {
    return error.reason === 'unfinished' ? 409 : 404
  }
  return error.statusCode ?? 500
}
