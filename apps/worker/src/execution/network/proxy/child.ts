import { readFileSync } from 'node:fs'
import { GatewayProxy, PROXY_LIMITS, type ProxyLimits } from './gateway-proxy.js'
import { resolveBySystem } from './lookup.js'
import { AddressPolicy } from './policy.js'
import type { ListenInput, ProxyAnswer, ProxyCall, ProxyMessage, ProxyRequest } from './protocol.js'

/**
 * The process of the proxies of one worker, one proxy for each network: what tasks send can neither block the worker nor
 * fill its memory. It ends with the worker; then tasks have no way out at all.
 */

const proxies = new Map<string, GatewayProxy>()
let policy = new AddressPolicy({ opened: [], own: [] })

process.on('message', (request: ProxyRequest) => void answer(request))
process.on('disconnect', () => process.exit(0))
// Who stops the worker's group stops it by way of the worker, which lets its tasks end first.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

async function answer({ id, body }: ProxyRequest): Promise<void> {
  try {
    send({ type: 'done', id, answer: await perform(body) })
  } catch (error) {
    send({ type: 'failed', id, message: error instanceof Error ? error.message : String(error) })
  }
}

async function perform(body: ProxyCall): Promise<ProxyAnswer> {
  switch (body.call) {
    case 'rules':
      policy = new AddressPolicy(body.rules)
      return null
    case 'listen':
      return await listen(body)
    case 'bind':
      proxyOf(body.network).bind(body.hosts)
      return null
    case 'unbind':
      proxyOf(body.network).unbind()
      return null
    case 'denied':
      return proxyOf(body.network).denied()
  }
}

async function listen({ network, gateway, subnet, port }: ListenInput): Promise<number> {
  const proxy = new GatewayProxy({
    gateway,
    subnet,
    port,
    policy: () => policy,
    resolve: resolveBySystem,
    limits: limitsOf(openFiles()),
    onDenied: place => send({ type: 'denied', network, ...place }),
  })
  const listening = await proxy.listen()
  proxies.set(network, proxy)
  return listening
}

function proxyOf(network: string): GatewayProxy {
  const proxy = proxies.get(network)
  if (!proxy) throw new Error(`there is no proxy for network ${network}`)
  return proxy
}

/** A request takes two descriptors. With few of them, no task may take more than an eighth. */
function limitsOf(files: number): ProxyLimits {
  return {
    ...PROXY_LIMITS,
    connections: Math.max(8, Math.min(PROXY_LIMITS.connections, Math.floor(files / 16))),
  }
}

function openFiles(): number {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
  return Number(line?.[1] ?? 1024)
}

function send(message: ProxyMessage): void {
  if (process.connected) process.send?.(message)
}
