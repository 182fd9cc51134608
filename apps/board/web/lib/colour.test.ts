import { expect, test } from '@jest/globals'
import { contrast, GROUNDS, hexOf, legibleOn } from './colour.js'

test('contrast is what WCAG says it is', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21)
  expect(contrast('#777777', '#777777')).toBe(1)
})

test('every colour can be read on every ground', () => {
  const steps = [0, 51, 102, 153, 204, 255]
  for (const ground of [...Object.values(GROUNDS), '#ff0000', '#808080', '#00ff00'])
    for (const red of steps)
      for (const green of steps)
        for (const blue of steps)
          expect(contrast(legibleOn(ground, hexOf([red, green, blue])), ground)).toBeGreaterThanOrEqual(4.5)
})

test('a colour that can be read stays as it is', () => {
  expect(legibleOn('#ffffff', '#0000aa')).toBe('#0000aa')
})
