import type { LiveContainer } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { linesOf } from './top.js'

const ROOM = { rows: 10, columns: 200 }
const plain = (word: string) => word

function container(changes: Partial<LiveContainer> = {}): LiveContainer {
  return {
    id: 'a'.repeat(64),
    name: 'agirunner-t-1-1',
    kind: 'task',
    status: 'running',
    taskId: 't-1',
    attempt: 1,
    tenantId: 'default',
    labels: {},
    image: 'debian:12',
    imageDigest: null,
    distro: null,
    cpu: { used: 0.5, limit: 2 },
    memory: { used: 3 * 2 ** 20, limit: null },
    pids: { used: null, limit: 64 },
    network: 'none',
    startedAt: null,
    lastOutput: { at: '', text: 'building' },
    worker: 'w-1',
    ...changes,
  }
}

describe('the table of `top`', () => {
  it('shows what is used of what there may be', () => {
    expect(linesOf([container()], ROOM, plain)).toEqual([
      'NAME             KIND  STATUS   CPU       MEMORY           PIDS    LAST OUTPUT',
      'agirunner-t-1-1  task  running  0.50 / 2  3Mi / unlimited  - / 64  building',
    ])
  })

  it('lets no output act on a terminal', () => {
    const text = 'a\u001b]0;title\u0007b\u001b[31mc\rd\u202ee'
    const [, line = ''] = linesOf([container({ lastOutput: { at: '', text } })], ROOM, plain)
    expect(line).toMatch(/ {2}\S*abc d e$|abc d e$/)
    expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u)
  })

  it('is cut to its room, and says how many it leaves out', () => {
    const all = Array.from({ length: 9 }, () => container())
    expect(linesOf(all, ROOM, plain)).toHaveLength(10)
    const lines = linesOf([...all, container()], { rows: 10, columns: 30 }, plain)
    expect(lines).toHaveLength(10)
    expect(lines.at(-1)).toBe('… and 2 more')
    expect(Math.max(...lines.map(line => line.length))).toBeLessThanOrEqual(30)
  })

  it('colours the status alone', () => {
    const [heading, line] = linesOf([container()], ROOM, word => `<${word.trim()}>`)
    expect(heading).toContain('<STATUS>')
    expect(line).toContain('task  <running>  0.50')
  })
})
