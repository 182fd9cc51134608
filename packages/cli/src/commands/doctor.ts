import { type Command, JSON_OPTION } from '../command.js'
import { checkCache } from '../doctor/cache.js'
import { checkData } from '../doctor/data.js'
import { checkEngine } from '../doctor/engine.js'
import type { Finding } from '../doctor/finding.js'
import { checkRedis } from '../doctor/redis.js'
import { checkWorkers } from '../doctor/workers.js'
import { EXIT } from '../errors.js'

export const doctor: Command = {
  usage: 'doctor [--json]',
  summary:
    'checks Redis, the engine, the base image, limits, the data folder and the workers, and says how to fix it',
  details: 'Exits with 0 when nothing is bad, else with 5.',
  options: { json: { ...JSON_OPTION, help: 'print one JSON object a line' } },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run(call) {
    const { io, flag } = call
    let bad = 0
    for (const check of [checkRedis, checkEngine, checkData, checkCache, checkWorkers]) {
      for (const finding of await check(call)) {
        if (finding.level === 'bad') bad += 1
        await io.out.line(flag('json') ? JSON.stringify(finding) : show(finding))
      }
    }
    return bad > 0 ? EXIT.infrastructure : EXIT.ok
  },
}

function show({ level, check, found, fix }: Finding): string {
  const line = `${level.padEnd(4)}  ${check.padEnd(14)}  ${found}`
  return fix ? `${line}\n${' '.repeat(22)}fix: ${fix}` : line
}
