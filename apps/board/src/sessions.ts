import { createHash, createHmac, randomBytes } from 'node:crypto'
import type { RedisNames } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { Role } from './api.js'
import { isEqual, type Passwords } from './auth.js'
import { fromRedis } from './errors.js'

/** A session ends when nothing was asked with it for so long, in seconds: 12 hours. */
const IDLE_SECONDS = 12 * 3600

export interface Login {
  /** What the browser holds, and nobody else. */
  readonly id: string
  readonly role: Role
  /** For the header `x-csrf-token`. */
  readonly csrf: string
}

/** What Redis holds of a session. Who reads it can't log in with it, nor guess the password by it. */
interface SessionRecord {
  readonly role: Role
  /** Made of the id and the password, so that another password ends the session. */
  readonly proof: string
}

/** Sessions of people at browsers; any board on the queue that has the same passwords knows them. */
export class Sessions {
  readonly #redis: Redis
  readonly #names: RedisNames
  readonly #passwords: Passwords

  constructor(redis: Redis, names: RedisNames, passwords: Passwords) {
    this.#redis = redis
    this.#names = names
    this.#passwords = passwords
  }

  /** @throws Refusal 503 */
  async begin(role: Role): Promise<Login> {
    const id = randomBytes(32).toString('base64url')
    const record: SessionRecord = { role, proof: this.#proofOf(id, role) }
    await fromRedis(this.#redis.set(this.#keyOf(id), JSON.stringify(record), 'EX', IDLE_SECONDS))
    return loginOf(id, role)
  }

  /** The session of an id, null when there is none (any more). It lives on from here. @throws Refusal 503 */
  async find(id: string): Promise<Login | null> {
    if (!ID.test(id)) return null
    const json = await fromRedis(this.#redis.getex(this.#keyOf(id), 'EX', IDLE_SECONDS))
    return this.#read(id, json)
  }

  /** Whether a session goes on; asking does not prolong it. @throws Refusal 503 */
  async goesOn(id: string): Promise<boolean> {
    return this.#read(id, await fromRedis(this.#redis.get(this.#keyOf(id)))) !== null
  }

  /** @throws Refusal 503 */
  async end(id: string): Promise<void> {
    await fromRedis(this.#redis.del(this.#keyOf(id)))
  }

  #read(id: string, json: string | null): Login | null {
    if (json === null) return null
    const { role, proof } = JSON.parse(json) as SessionRecord
    return isEqual(proof, this.#proofOf(id, role)) ? loginOf(id, role) : null
  }

  #keyOf(id: string): string {
    return this.#names.session(createHash('sha256').update(id).digest('hex'))
  }

  #proofOf(id: string, role: Role): string {
    return keyed(id, `${role} ${this.#passwords[role] ?? randomBytes(32).toString('hex')}`)
  }
}

/** As `begin` makes them; anything else is not worth a question to Redis. */
const ID = /^[\w-]{43}$/

function loginOf(id: string, role: Role): Login {
  return { id, role, csrf: keyed(id, 'csrf') }
}

/** In hexadecimal digits, which look like no token and so pass every redaction. */
function keyed(id: string, text: string): string {
  return createHmac('sha256', id).update(text).digest('hex')
}
