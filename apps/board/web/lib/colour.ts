/** The grounds that a log's text may stand on: the card of either theme, and the lightest of the colours behind text. */
export const GROUNDS = { light: '#ffffff', dark: '#17171b', coloured: '#52525c' } as const
/** What WCAG asks of text. */
const LEGIBLE = 4.5

/**
 * A colour that was chosen for somebody else's terminal, made as much darker or lighter as it takes to be read here.
 *
 * @param colour `#rrggbb`, as is the ground
 */
export function legibleOn(ground: string, colour: string): string {
  const target = contrast(ground, '#ffffff') >= contrast(ground, '#000000') ? 255 : 0
  for (let part = 0; part < 1; part += 0.1) {
    const mixed = hexOf(channels(colour).map(value => Math.round(value + (target - value) * part)))
    if (contrast(mixed, ground) >= LEGIBLE) return mixed
  }
  return target === 255 ? '#ffffff' : '#000000'
}

/** From 1, the same, to 21, black on white. */
export function contrast(one: string, other: string): number {
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a)
  return (light + 0.05) / (dark + 0.05)
}

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = channels(colour).map(value => {
    const part = value / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

const channels = (colour: string): number[] =>
  [1, 3, 5].map(at => Number.parseInt(colour.slice(at, at + 2), 16))

export const hexOf = (values: readonly number[]): string =>
  `#${values.map(value => value.toString(16).padStart(2, '0')).join('')}`
