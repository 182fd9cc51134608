import type { Contender, Sample } from './contender.js'
import { type Rounds, rotated, roundsOf } from './rounds.js'
import type { Samples } from './statistics.js'

export interface MeasureOptions {
  readonly contenders: readonly Contender[]
  readonly rounds: Rounds
  /** Hears of each round that is done. */
  readonly onRound?: (round: number) => void
}

/**
 * Runs every contender once in each round, one after another, the first of a round being another each time: what
 * changes on the machine while it measures meets all of them alike. The first round warms up and is not counted.
 */
export async function measure({ contenders, rounds, onRound }: MeasureOptions): Promise<Samples> {
  const samples: Record<string, Sample[]> = Object.fromEntries(contenders.map(({ name }) => [name, []]))
  for (const round of roundsOf(rounds)) {
    for (const contender of rotated(contenders, round)) {
      await contender.prepare(round)
      const sample = await contender.run(round)
      await contender.settle?.()
      if (round > 0) samples[contender.name]?.push(sample)
    }
    onRound?.(round)
  }
  return samples
}
