/** What may wait for tasks. */
export interface ParkingBudget {
  /** Containers that may wait at once; 0 for none ever. */
  readonly max: number
  readonly memoryBytes: number
  /** How long one may wait, in milliseconds. */
  readonly maxAgeMs: number
}
