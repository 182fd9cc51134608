/** How the workspace gets into the container; probed once at start, in this order. */
export const STRATEGIES = ['late_overlay', 'overlay_volume', 'copy', 'archive'] as const
export type Strategy = (typeof STRATEGIES)[number]
