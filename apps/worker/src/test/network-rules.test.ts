import { readdirSync, readFileSync } from 'node:fs'
import { eventually, processTree } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { Reaper } from '../cleanup/reaper.js'
import { Firewall } from '../execution/network/firewall.js'
import { NetworkPool } from '../execution/network/pool.js'
import { createLog } from '../support/log.js'
import { NetworkFixture, realEngine, sh, taskWith, withFolder } from './network-fixture.js'
import { reach, SECRET, serveSecret } from './network-places.js'

const HOSTS = ['good.example']
let fixture: NetworkFixture
let web: { port: number; close(): void }

beforeEach(async () => {
  fixture = await NetworkFixture.create()
  web = await serveSecret('0.0.0.0')
})
afterEach(async () => {
  web.close()
  expect(await fixture.close()).toEqual([])
})

const lines = async () => (await sh('iptables', '-w', '10', '-S')).split('\n')
/** Lines with our own worker in their comment: the jumps to its chains. */
const jumpsOf = async (one: NetworkFixture) => (await lines()).filter(line => line.includes(one.owner.worker))
const chainsOf = async (one: NetworkFixture) => (await jumpsOf(one)).map(line => line.split(' -j ')[1] ?? '')

const attack = () => reach(`http://172.17.0.1:${web.port}/`)
/** What a task sees that was there already. */
async function insideOf(id: string, ...command: string[]): Promise<string> {
  const pid = (await sh('docker', 'inspect', '--format', '{{.State.Pid}}', id)).trim()
  return await sh('nsenter', '-t', pid, '-n', ...command).catch(
    error => String(error.stdout) + String(error.stderr),
  )
}
const reachFrom = (id: string) =>
  insideOf(id, 'curl', '-gsS', '-m', '3', '--noproxy', '*', `http://172.17.0.1:${web.port}/`)

describe('rules that somebody takes away', () => {
  test.each([
    [
      'by emptying the chains',
      async () => {
        for (const chain of new Set(await chainsOf(fixture))) await sh('iptables', '-w', '10', '-F', chain)
      },
    ],
    [
      'by deleting the jumps to them',
      async () => {
        for (const jump of await jumpsOf(fixture))
          await sh('iptables', '-w', '10', '-D', ...jump.slice(3).replaceAll('"', '').split(' '))
      },
    ],
  ])('%s open the way to this machine, and are back before the next task', async (_how, takeAway) => {
    const before = await jumpsOf(fixture)
    const running = await fixture.neighbour(HOSTS, 'sleep 60')
    try {
      expect(await reachFrom(running.id)).not.toContain(SECRET)
      await takeAway()
      // The control: the rules were what held it.
      expect(await reachFrom(running.id)).toContain(SECRET)
      expect((await fixture.run(HOSTS, attack())).output).not.toContain(SECRET)
      expect(await reachFrom(running.id)).not.toContain(SECRET)
      expect((await jumpsOf(fixture)).toSorted()).toEqual(before.toSorted())
    } finally {
      await running.end()
    }
  })

  test('are put before those that somebody else placed in front', async () => {
    const accept = ['INPUT', '-p', 'tcp', '--dport', String(web.port), '-j', 'ACCEPT']
    const running = await fixture.neighbour(HOSTS, 'sleep 60')
    await sh('iptables', '-w', '10', '-I', ...accept)
    try {
      expect(await reachFrom(running.id)).toContain(SECRET)
      await fixture.networks.round()
      expect(await reachFrom(running.id)).not.toContain(SECRET)
    } finally {
      await sh('iptables', '-w', '10', '-D', ...accept)
      await running.end()
    }
  })

  test('come back with every round, also when no task starts', async () => {
    for (const chain of new Set(await chainsOf(fixture))) await sh('iptables', '-w', '10', '-F', chain)
    const filled = async () => (await lines()).filter(line => line.startsWith('-A AGIRUNNER')).length > 0
    await fixture.networks.round()
    expect(await filled()).toBe(true)
    expect(fixture.networks.capabilities().map(({ state }) => state)).toEqual([
      'enforced',
      'enforced',
      'enforced',
    ])
  })
})

describe('several workers', () => {
  test('hold each its own rules, and end without those of another', async () => {
    const other = await NetworkFixture.create()
    const before = await jumpsOf(fixture)
    expect(await jumpsOf(other)).toHaveLength(before.length)
    expect(await other.close()).toEqual([])
    expect(await jumpsOf(fixture)).toEqual(before)
    expect((await fixture.run(HOSTS, attack())).output).not.toContain(SECRET)
  })

  test('clear away what a dead one left: its networks, then its rules', async () => {
    const dead = { worker: `w-${process.pid}-1-dead00`, host: fixture.owner.host, stack: fixture.owner.stack }
    const firewall = await Firewall.open(dead)
    await firewall.apply({ proxied: [], nameservers: [], opened: [], own: [] })
    const network = await new NetworkPool(realEngine, dead).take('allowlist')
    await fixture.networks.round()
    // A network of its own is still there, and with it the rules.
    expect((await lines()).some(line => line.includes(dead.worker))).toBe(true)
    await withFolder(async dataDir => {
      const log = createLog('error', {})
      const reaper = new Reaper({
        groups: null,
        engine: realEngine,
        owner: fixture.owner,
        dataDir,
        log,
        hasHeartbeat: async () => true,
      })
      await reaper.reap()
    })
    expect(readdirSync('/sys/class/net')).not.toContain(network.bridge)
    await fixture.networks.round()
    expect((await lines()).some(line => line.includes(dead.worker))).toBe(false)
    expect(await sh('ip6tables', '-w', '10', '-S')).not.toContain(dead.worker)
  })
})

describe('a network', () => {
  test('serves tasks one after another, never two at a time', async () => {
    const first = await fixture.networks.acquire(taskWith(HOSTS), () => undefined)
    const second = await fixture.networks.acquire(taskWith(HOSTS), () => undefined)
    expect(second.name).not.toBe(first.name)
    await first.release()
    const third = await fixture.networks.acquire(taskWith(['other.example']), () => undefined)
    expect(third.name).toBe(first.name)
    for (const one of [second, third, third]) await one.release()
  })

  test('in which a container was left behind is given to nobody', async () => {
    const left = await fixture.neighbour(HOSTS, 'sleep 60')
    await left.network.release()
    const next = await fixture.networks.acquire(taskWith(HOSTS), () => undefined)
    expect(next.name).not.toBe(left.network.name)
    await next.release()
    await left.end()
  })

  test('that is still in use at the end keeps its rules', async () => {
    const ending = await NetworkFixture.create()
    const left = await ending.neighbour(HOSTS, 'sleep 60')
    await ending.networks.close()
    expect(await jumpsOf(ending)).not.toEqual([])
    expect(await reachFrom(left.id)).not.toContain(SECRET)
    await realEngine.remove(left.id)
    expect(await ending.close()).toEqual([])
  })

  test('that somebody removed is made anew', async () => {
    const first = await fixture.networks.acquire(taskWith(HOSTS), () => undefined)
    await first.release()
    await sh('docker', 'network', 'rm', first.name)
    const { output } = await fixture.run(HOSTS, 'curl -s http://evil.example')
    expect(output).toContain('not allowed for this task')
  })
})

describe('the proxy’s process', () => {
  const proxyPid = async () => {
    const children = await processTree(process.pid)
    const found = children.find(({ pid }) =>
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('network/proxy/child'),
    )
    return found?.pid ?? 0
  }

  test('that dies leaves its tasks no way out, and another serves them at the same place', async () => {
    const running = await fixture.neighbour(HOSTS, 'sleep 60')
    try {
      const proxy = running.network.env.http_proxy ?? ''
      const ask = () => insideOf(running.id, 'curl', '-sS', '-m', '3', '-x', proxy, 'http://evil.example/')
      expect(await ask()).toContain('not allowed for this task')
      process.kill(await proxyPid(), 'SIGKILL')
      await eventually(async () => /connect|reset|empty reply/i.test(await ask()), { every: 1 })
      expect(await reachFrom(running.id)).not.toContain(SECRET)
      await eventually(async () => (await ask()).includes('not allowed for this task'))
      expect((await running.network.egress()).denied).toEqual([
        { host: 'evil.example', port: 80, count: expect.any(Number) },
      ])
    } finally {
      await running.end()
    }
  })

  test('serves others while a task floods it', async () => {
    const flood =
      'for i in 1 2 3 4; do while :; do curl -s -m 1 http://evil.example/; done & done >/dev/null 2>&1; wait'
    const flooding = await fixture.neighbour(HOSTS, flood)
    try {
      const timed = `for i in $(seq 20); do curl -s -o /dev/null -w '%{http_code} %{time_total}\\n' http://evil.example/; done`
      const { output } = await fixture.run(HOSTS, timed)
      const seconds = output
        .trim()
        .split('\n')
        .map(line => Number(line.split(' ')[1]))
      expect(seconds).toHaveLength(20)
      expect(Math.max(...seconds)).toBeLessThan(3)
    } finally {
      await flooding.end()
    }
  })
})

describe('what can’t be enforced', () => {
  test('is refused where the engine’s networks are on another machine', async () => {
    const elsewhere = new Proxy(realEngine, {
      get: (engine, name) =>
        name === 'createNetwork'
          ? (network: Parameters<typeof engine.createNetwork>[0]) =>
              engine.createNetwork({ ...network, bridge: `x${network.bridge.slice(1)}` })
          : (Reflect.get(engine, name) as (...args: unknown[]) => unknown).bind(engine),
    })
    const remote = await NetworkFixture.create({ engine: elsewhere })
    const states = () => remote.networks.capabilities().map(({ name, state }) => `${name} ${state}`)
    expect(states()).toEqual(['network none enforced', 'network allowlist missing', 'network open missing'])
    for (const wanted of ['open', HOSTS] as const) {
      const refused = {
        code: 'environment.unsupported',
        message: expect.stringContaining('not on this machine'),
      }
      await expect(remote.networks.acquire(taskWith(wanted), () => undefined)).rejects.toMatchObject(refused)
    }
    await remote.networks.round()
    expect(states()[1]).toBe('network allowlist missing')
    expect((await remote.run('none', 'echo fine')).output).toBe('fine\n')
    expect(await remote.close()).toEqual([])
  })

  test('and what the operator switched off is forbidden', async () => {
    const strict = await NetworkFixture.create({ modes: ['allowlist'] })
    for (const wanted of ['open', 'none'] as const) {
      expect(() => strict.networks.check(taskWith(wanted))).toThrow(
        expect.objectContaining({ code: 'spec.forbidden', hint: expect.stringContaining('use allowlist') }),
      )
    }
    expect(() => strict.networks.check(taskWith(HOSTS))).not.toThrow()
    expect(await strict.close()).toEqual([])
  })
})
