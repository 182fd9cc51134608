import { execFile } from 'node:child_process'
import { once } from 'node:events'
import type { TestWorker } from '@agirunner/test-kit'

/** What a worker tells Prometheus, and how to read it. */
export interface Scraped {
  readonly text: string
  /** The names of all metrics. */
  readonly names: ReadonlySet<string>
  /** The value of a series by its name and labels, as they are written; undefined where there is none. */
  readonly value: (series: string) => number | undefined
}

export async function ask(
  worker: TestWorker,
  path: string,
): Promise<{ status: number; type: string; body: string }> {
  const response = await fetch(`${worker.http}${path}`)
  return {
    status: response.status,
    type: response.headers.get('content-type') ?? '',
    body: await response.text(),
  }
}

export async function scrape(worker: TestWorker): Promise<Scraped> {
  const { body: text } = await ask(worker, '/metrics')
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  const values = new Map(
    lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]),
  )
  return {
    text,
    names: new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name ?? '')),
    value: series => values.get(series),
  }
}

/** @throws Error with what `promtool` found wrong */
export async function promtool(args: readonly string[], input = ''): Promise<string> {
  const child = execFile('promtool', args)
  const said: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text: string) => said.push(text))
  child.stdin?.end(input)
  const [code] = await once(child, 'close').catch(error => {
    throw new Error('promtool is part of Prometheus; `npm test` brings it', { cause: error })
  })
  const text = said.join('')
  if (code !== 0) throw new Error(`promtool ended with ${String(code)}:\n${text}`)
  return text
}
