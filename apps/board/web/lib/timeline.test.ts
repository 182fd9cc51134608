import type { TaskEvent } from '@agirunner/contracts'
import { expect, test } from '@jest/globals'
import { ticksOf, timelineOf } from './timeline.js'

let seq = 0
const event = (
  attempt: number,
  ms: number,
  type: TaskEvent['type'],
  phase: TaskEvent['phase'],
  data: TaskEvent['data'] = {},
): TaskEvent => {
  seq += 1
  return { version: 1, taskId: 't', attempt, seq, at: new Date(ms).toISOString(), type, phase, data }
}

test('phases are spans, the waiting from before anybody saw it', () => {
  const timeline = timelineOf([
    event(1, 1000, 'phase.finished', 'queued', { durationMs: 400 }),
    event(1, 1000, 'phase.started', 'workspace'),
    event(1, 1500, 'phase.finished', 'workspace'),
    event(1, 1500, 'phase.started', 'run'),
  ])
  expect(timeline).toEqual({
    start: 600,
    end: 1500,
    spans: [
      { attempt: 1, phase: 'queued', start: 600, end: 1000 },
      { attempt: 1, phase: 'workspace', start: 1000, end: 1500 },
      { attempt: 1, phase: 'run', start: 1500, end: null },
    ],
  })
})

test('the waiting that began with the enqueueing is that of the first attempt', () => {
  const timeline = timelineOf([
    event(0, 100, 'phase.started', 'queued'),
    event(1, 300, 'phase.finished', 'queued', { durationMs: 195 }),
    event(1, 300, 'phase.started', 'workspace'),
  ])
  expect(timeline?.spans).toEqual([
    { attempt: 1, phase: 'queued', start: 100, end: 300 },
    { attempt: 1, phase: 'workspace', start: 300, end: null },
  ])
})

test('what a lost worker left open ends where the next attempt begins', () => {
  const timeline = timelineOf([
    event(1, 100, 'phase.started', 'run'),
    event(2, 900, 'phase.started', 'workspace'),
    event(2, 950, 'phase.finished', 'workspace'),
  ])
  expect(timeline?.spans[0]).toEqual({ attempt: 1, phase: 'run', start: 100, end: 900 })
})

test('the cleanup after an end has a span of its own, and nothing is open after the end', () => {
  const timeline = timelineOf([
    event(1, 100, 'phase.started', 'report'),
    event(1, 200, 'attempt.finished', 'report'),
    event(1, 210, 'task.finished', 'report'),
    event(1, 220, 'phase.started', 'cleanup'),
    event(1, 300, 'phase.finished', 'cleanup'),
  ])
  expect(timeline?.spans).toEqual([
    { attempt: 1, phase: 'report', start: 100, end: 200 },
    { attempt: 1, phase: 'cleanup', start: 220, end: 300 },
  ])
})

test('events in any order say the same, and none say nothing', () => {
  const events = [
    event(1, 100, 'phase.started', 'workspace'),
    event(1, 200, 'phase.finished', 'workspace'),
    event(1, 200, 'phase.started', 'run'),
  ]
  expect(timelineOf(events.toReversed())).toEqual(timelineOf(events))
  expect(timelineOf([])).toBeNull()
  expect(timelineOf([event(1, 1, 'attempt.started', 'workspace')])).toBeNull()
})

test.each([1, 7, 999, 12_345, 3_600_000, 90_000_000])('an axis of %d ms has few round marks', total => {
  const ticks = ticksOf(total, 6)
  expect(ticks[0]).toBe(0)
  expect(ticks.length).toBeLessThanOrEqual(6)
  expect(ticks.at(-1)).toBeLessThanOrEqual(total)
})
