import { align } from './table.js'

/** What a figure is to be. */
export interface Target {
  readonly what: string
  readonly atMost?: number
  readonly atLeast?: number
  readonly unit: string
  readonly measured: number
}

/** Whether it is; what could not be measured is not. */
export function isMet({ atMost = Number.POSITIVE_INFINITY, atLeast = 0, measured }: Target): boolean {
  return measured <= atMost && measured >= atLeast
}

export function renderTargets(targets: readonly Target[]): string {
  const show = (value: number, unit: string) => `${Number(value.toFixed(value < 10 ? 2 : 1))} ${unit}`
  const rows = targets.map(target => {
    const { what, atMost, atLeast, unit, measured } = target
    const limit = atMost === undefined ? `≥ ${show(atLeast ?? 0, unit)}` : `≤ ${show(atMost, unit)}`
    return [what, limit, show(measured, unit), isMet(target) ? 'met' : '**target missed**']
  })
  return align([['', 'target', 'measured', ''], ...rows])
}
