import { type Command, JSON_OPTION } from '../command.js'
import { checkCache } from '../doctor/cache.js'
import { checkCatalog } from '../doctor/catalog.js'
import { checkData } from '../doctor/data.js'
import { checkEngine } from '../doctor/engine.js'
import type { Finding } from '../doctor/finding.js'
import { checkImage } from '../doctor/image.js'
import { checkRedis } from '../doctor/redis.js'
import { checkWorkers } from '../doctor/workers.js'
import { EXIT } from '../errors.js'

export const doctor: Command = {
  usage: 'doctor [--image IMAGE] [--json]',
  summary:
    'checks Redis, the engine, images, limits, the data folder and the workers, and says how to fix it',
  details:
    'With --image it looks into that image alone, pulling it where it is not there: whether it can run tasks and a ' +
    'bootstrap, and what it holds. Exits with 0 when nothing is bad, else with 5.',
  options: {
    image: {
      type: 'string',
      value: 'IMAGE',
      help: 'look into this image: a name of the catalog or a reference',
    },
    json: { ...JSON_OPTION, help: 'print one JSON object a line' },
  },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run(call) {
    const { io, flag, option } = call
    const all = [checkRedis, checkEngine, checkCatalog, checkData, checkCache, checkWorkers]
    let bad = 0
    for (const check of option('image') === undefined ? all : [checkImage]) {
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
