import { describe, expect, it } from '@jest/globals'
import { readArguments, splitCommand } from './arguments.js'
import type { Command } from './command.js'

const command: Command = {
  usage: 'x ID [-f] [--reason R]',
  summary: '',
  options: {
    follow: { type: 'boolean', short: 'f', help: '' },
    reason: { type: 'string', value: 'R', help: '' },
  },
  takes: { min: 1, max: 1, name: 'an ID' },
  run: async () => 0,
}
const read = (...argv: string[]) => readArguments('x', command, argv)

describe('splitCommand', () => {
  it('finds the command behind common options', () => {
    expect(splitCommand(['run', '-'])).toEqual({ name: 'run', rest: ['-'] })
    expect(splitCommand(['--queue', 'q', 'run', 'f'])).toEqual({ name: 'run', rest: ['--queue', 'q', 'f'] })
    expect(splitCommand(['--version'])).toEqual({ name: null, rest: ['--version'] })
  })
})

describe('readArguments', () => {
  it('reads options in every usual form', () => {
    expect(read('t-1', '-f', '--reason', 'no need', '--queue=q')).toEqual({
      positionals: ['t-1'],
      values: { follow: true, reason: 'no need', queue: 'q' },
    })
    expect(read('-').positionals).toEqual(['-'])
    expect(read('--', '-f').positionals).toEqual(['-f'])
  })

  it.each([
    [['t-1', '--folow'], '--folow is no option of `agirunner x`; it is not known; did you mean --follow?'],
    [['t-1', '--zzz'], '`agirunner x --help` lists what there is'],
    [['t-1', '-z'], '-z is no option'],
    [['t-1', '--reason'], '--reason needs a value'],
    [['t-1', '--reason', '-f'], '--reason needs a value'],
    [['t-1', '--follow=yes'], '--follow takes no value'],
    [[], '`agirunner x` needs an ID; none was given'],
    [['t-1', 't-2'], '"t-2" is one argument too many'],
  ])('refuses %j', (argv, message) => {
    expect(() => read(...argv)).toThrow(message)
  })

  it('takes a value that starts with a dash where it is meant', () => {
    expect(read('t-1', '--reason=-x').values.reason).toBe('-x')
  })

  it('asks for nothing else when help is wanted', () => {
    expect(read('--help').values.help).toBe(true)
  })
})
