import { METRICS, type Metric, type Sample } from './contender.js'

export interface Summary {
  readonly median: number
  readonly p95: number
  readonly p99: number
  readonly samples: readonly number[]
}

/** The samples of each contender, in the order of the rounds. */
export type Samples = Readonly<Record<string, readonly Sample[]>>

export interface ContenderReport {
  /** In milliseconds. */
  readonly metrics: Readonly<Record<Metric, Summary>>
  /**
   * For each contender: how many times as long as it this one took, as the median over the rounds of the ratio within
   * a round. What slows the machine for a while slows a whole round, and leaves its ratio alone.
   */
  readonly ratios: Readonly<Record<string, Readonly<Record<Metric, number>>>>
}
export type Report = Readonly<Record<string, ContenderReport>>

/**
 * @param part 0.5 for the median, which is then the mean of the middle two where there are two; else the nearest rank
 * @returns NaN when there are no values; those that are NaN don't count
 */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.filter(value => !Number.isNaN(value)).toSorted((a, b) => a - b)
  const at = (index: number) => sorted[index] ?? Number.NaN
  if (part === 0.5 && sorted.length % 2 === 0) return (at(sorted.length / 2 - 1) + at(sorted.length / 2)) / 2
  return at(Math.max(0, Math.ceil(sorted.length * part) - 1))
}

/** Sums up samples of rounds in which every contender took part. */
export function summarize(samples: Samples): Report {
  return Object.fromEntries(
    Object.entries(samples).map(([name, own]) => {
      const others = Object.entries(samples).filter(([other]) => other !== name)
      const ratios = others.map(([other, theirs]) => [other, perMetric(metric => ratio(own, theirs, metric))])
      return [
        name,
        {
          metrics: perMetric(metric => summary(own.map(sample => sample[metric] ?? Number.NaN))),
          ratios: Object.fromEntries(ratios),
        },
      ]
    }),
  )
}

function perMetric<T>(value: (metric: Metric) => T): Record<Metric, T> {
  return Object.fromEntries(METRICS.map(metric => [metric, value(metric)])) as Record<Metric, T>
}

/** Of what was measured; NaN stands for what could not be. */
export function summary(samples: readonly number[]): Summary {
  return {
    median: quantile(samples, 0.5),
    p95: quantile(samples, 0.95),
    p99: quantile(samples, 0.99),
    samples,
  }
}

function ratio(own: readonly Sample[], theirs: readonly Sample[], metric: Metric): number {
  const ratios = own.map(
    (sample, round) => (sample[metric] ?? Number.NaN) / (theirs[round]?.[metric] ?? Number.NaN),
  )
  return quantile(ratios, 0.5)
}

/** How much more of `y` there is with each `x`: the least squares' line through the points. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const x = mean(points.map(([at]) => at))
  const y = mean(points.map(([, value]) => value))
  const sum = (of: (x: number, y: number) => number) =>
    points.reduce((total, [at, value]) => total + of(at - x, value - y), 0)
  return sum((dx, dy) => dx * dy) / sum(dx => dx * dx)
}
