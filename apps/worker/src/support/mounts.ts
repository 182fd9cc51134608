import { readFile } from 'node:fs/promises'

/** A folder and what is below it, as far as something is mounted there; the innermost first. */
export async function mountsIn(folder: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  const points = table.split('\n').map(line => line.split(' ')[4] ?? '')
  return points.filter(point => point === folder || point.startsWith(`${folder}/`)).toReversed()
}
