import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'

/** A reply of Redis that begins with `-`, such as LOADING, NOAUTH or WRONGPASS. */
export class RedisReplyError extends Error {}

/**
 * Sends commands to Redis, one after the other on one connection, and closes it. It knows just enough of the
 * protocol for a set-up; everything else uses a real client.
 * @param {string} url `redis://[user[:password]@]host[:port]`, or `rediss://` for TLS
 * @param {readonly (readonly string[])[]} commands
 * @param {{withinMs: number}} options for all of it together
 * @returns {Promise<string[]>} one reply a command; an array's members are joined by newlines
 * @throws {RedisReplyError | Error} the first failing reply, or why there was none
 */
export function askRedis(url, commands, { withinMs }) {
  const { socket, login } = open(new URL(url))
  const all = [...login, ...commands]
  return new Promise((resolve, reject) => {
    /** @type {string[]} */
    const replies = []
    let received = Buffer.alloc(0)
    const timer = setTimeout(() => finish(new Error(`no answer within ${withinMs / 1000} s`)), withinMs)
    /** @param {Error | null} error */
    const finish = error => {
      clearTimeout(timer)
      socket.destroy()
      if (error) reject(error)
      else resolve(replies.slice(login.length))
    }
    // On, not once: a second error after the end must not become an uncaught one.
    socket.on('error', finish)
    socket.once('close', () => finish(new Error('it closed the connection')))
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      for (let reply = parseReply(received, 0); reply; reply = parseReply(received, 0)) {
        received = received.subarray(reply.end)
        if (reply.error) return finish(new RedisReplyError(reply.text))
        replies.push(reply.text)
        if (replies.length === all.length) return finish(null)
      }
    })
    socket.write(all.map(encode).join(''))
  })
}

/**
 * @param {URL} url
 * @returns {{socket: import('node:net').Socket, login: string[][]}}
 */
function open(url) {
  const user = decodeURIComponent(url.username)
  const password = decodeURIComponent(url.password)
  const login = password ? [user ? ['AUTH', user, password] : ['AUTH', password]] : []
  const host = url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1'
  const port = Number(url.port || 6379)
  const socket =
    url.protocol === 'rediss:' ? connectTls({ host, port, servername: host }) : connectTcp({ host, port })
  return { socket, login }
}

/** @param {readonly string[]} words */
function encode(words) {
  return `*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
}

/**
 * @param {Buffer} bytes
 * @param {number} from
 * @returns {{text: string, error: boolean, end: number} | null} null while it is not complete
 */
function parseReply(bytes, from) {
  const lineEnd = bytes.indexOf('\r\n', from)
  if (lineEnd === -1) return null
  const kind = String.fromCharCode(bytes[from] ?? 0)
  const line = bytes.toString('utf8', from + 1, lineEnd)
  const next = lineEnd + 2
  if (kind === '$') return parseBulk(bytes, Number(line), next)
  if (kind === '*') return parseArray(bytes, Number(line), next)
  if (kind === '+' || kind === ':' || kind === '-') return { text: line, error: kind === '-', end: next }
  return { text: 'what answers does not speak the protocol of Redis', error: true, end: next }
}

/**
 * @param {Buffer} bytes
 * @param {number} length -1 stands for nothing
 * @param {number} from
 */
function parseBulk(bytes, length, from) {
  if (length < 0) return { text: '', error: false, end: from }
  const end = from + length + 2
  return bytes.length < end ? null : { text: bytes.toString('utf8', from, end - 2), error: false, end }
}

/**
 * @param {Buffer} bytes
 * @param {number} count
 * @param {number} from
 */
function parseArray(bytes, count, from) {
  const texts = []
  let end = from
  for (let index = 0; index < count; index += 1) {
    const member = parseReply(bytes, end)
    if (!member) return null
    texts.push(member.text)
    end = member.end
  }
  return { text: texts.join('\n'), error: false, end }
}
