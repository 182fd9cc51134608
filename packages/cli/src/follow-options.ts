import type { FollowOptions } from '@agirunner/producer'
import type { Call } from './command.js'
import { wholeNumber } from './settings.js'

/** What `-f` and `--from` ask for. */
export function followOptions({ flag, option }: Call): FollowOptions {
  const from = option('from')
  return {
    follow: flag('follow'),
    ...(from === undefined ? {} : { from: wholeNumber(from, '--from', 1, Number.MAX_SAFE_INTEGER) }),
  }
}
