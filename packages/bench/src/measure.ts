import type { Contender, Sample } from './contender.js'
import type { Samples } from './statistics.js'

export interface MeasureOptions {
  readonly contenders: readonly Contender[]
  readonly runs: number
  /** Hears of each round that is done. */
  readonly onRound?: (round: number) => void
}

/**
 * Runs every contender once in each round, one after another, the first of a round being another each time: what
 * changes on the machine while it measures meets all of them alike. The first round warms up and is not counted.
 */
export async function measure({ contenders, runs, onRound }: MeasureOptions): Promise<Samples> {
  const samples: Record<string, Sample[]> = Object.fromEntries(contenders.map(({ name }) => [name, []]))
  for (let round = 0; round <= runs; round += 1) {
    for (const contender of rotated(contenders, round)) {
      await contender.prepare(round)
      const sample = await contender.run(round)
      if (round > 0) samples[contender.name]?.push(sample)
    }
    onRound?.(round)
  }
  return samples
}

function rotated<T>(items: readonly T[], by: number): readonly T[] {
  const start = by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}
