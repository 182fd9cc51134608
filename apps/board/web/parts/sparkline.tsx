import { SAMPLES } from '../lib/fleet.js'
import { memo } from './memo.js'

const [WIDTH, HEIGHT] = [60, 16]

/** The last samples; the newest is at the right. Its scale is the limit, or the greatest sample where there is none. */
export const Sparkline = memo(({ samples, limit }: { samples: readonly number[]; limit: number | null }) => {
  const most = Math.max(limit ?? 0, ...samples) || 1
  const step = WIDTH / (SAMPLES - 1)
  const first = WIDTH - (samples.length - 1) * step
  const points = samples
    .map((sample, index) => {
      const y = HEIGHT - 1 - (sample / most) * (HEIGHT - 2)
      return `${(first + index * step).toFixed(1)},${y.toFixed(1)}`
    })
    .join(' ')
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
      <polyline points={points} />
    </svg>
  )
})
