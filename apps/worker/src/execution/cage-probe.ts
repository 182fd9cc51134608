import { randomUUID } from 'node:crypto'
import {
  type CageSeen,
  type Capability,
  engineCapabilities,
  missingVitals,
  TaskFailure,
} from '@agirunner/contracts'
import type { ContainerEngine, ContainerSpec, EngineInfo } from '../engine/engine.js'
import { labelsOf, type Owner } from '../engine/labels.js'
import { HELPER } from '../workspace/helper-container.js'

export interface CageProbeOptions {
  readonly engine: ContainerEngine
  readonly info: EngineInfo
  readonly owner: Owner
  /** An image with `/bin/sh`; with perl in it, the profile of system calls is tried too. */
  readonly image: string
}

const PROBE_MS = 30_000
/** More than the script says; the rest is not ours. */
const MAX_ANSWER = 16 * 1024

/**
 * Tells `KEY VALUE` lines by the shell's own means. The number is that of io_uring_setup on every architecture: of the
 * filters there are, only ours says that the kernel does not have it.
 */
const SCRIPT = `
while read -r key value; do
  case $key in Seccomp:|NoNewPrivs:|CapBnd:) echo "$key $value" ;; esac
done </proc/self/status
tell() { key=$1; shift; for file; do if read -r value <"$file"; then echo "$key $value"; return; fi; done 2>/dev/null; }
tell Init: /proc/1/comm
cd /sys/fs/cgroup
tell Memory: memory.max memory/memory.limit_in_bytes
tell Pids: pids.max pids/pids.max
tell Cpu: cpu.max cpu/cpu.cfs_quota_us
command -v perl >/dev/null && perl -e 'syscall 425, 1, 0; print "Call: ", $! + 0, "\\n"'
exit 0`

/**
 * What this engine can enforce: what it says, and what a container of ours sees of its own cage.
 *
 * @throws TaskFailure `environment.unsupported` that names everything vital which is missing, and how to get it
 */
export async function probeCage(options: CageProbeOptions): Promise<Capability[]> {
  const seen = (await isThere(options)) ? await look(options) : undefined
  const capabilities = engineCapabilities(options.info.facts, seen)
  const vital = missingVitals(capabilities)
  if (vital.length === 0) return capabilities
  const lines = vital.map(({ name, detail, fix }) => `${name}: ${detail}; ${fix}`)
  throw new TaskFailure(
    'environment.unsupported',
    `the engine can't hold tasks:\n  - ${lines.join('\n  - ')}`,
    {
      hint: 'see `agirunner doctor`; no task is run with less',
    },
  )
}

async function isThere({ engine, image }: CageProbeOptions): Promise<boolean> {
  return (await engine.image(image)) !== null
}

async function look({ engine, owner, image }: CageProbeOptions): Promise<CageSeen> {
  const id = await engine.create(probeSpec(owner, image))
  const signal = AbortSignal.timeout(PROBE_MS)
  try {
    const output = await engine.attach(id, signal)
    await engine.start(id)
    let text = ''
    for await (const { bytes } of output) {
      if (text.length < MAX_ANSWER) text += bytes.toString('latin1')
    }
    return readAnswer(text)
  } finally {
    await engine.remove(id)
  }
}

function probeSpec(owner: Owner, image: string): ContainerSpec {
  const id = randomUUID()
  return {
    ...HELPER,
    name: `agirunner-cage-${id}`,
    image,
    command: ['/bin/sh', '-c', SCRIPT],
    labels: labelsOf(owner, 'helper', id, image),
    user: '10001:10001',
    readOnlyRoot: true,
    mounts: [],
  }
}

const ENOSYS = '38'
const MODE_FILTER = '2'

/** @param text what the script printed */
function readAnswer(text: string): CageSeen {
  const lines = new Map(
    text.split('\n').map(line => [line.split(' ')[0] ?? '', line.split(/\s+/).slice(1).join(' ')]),
  )
  const is = (key: string, right: (value: string) => boolean) => {
    const value = lines.get(key)
    return value === undefined ? undefined : right(value)
  }
  const called = is('Call:', value => value === ENOSYS)
  const filtered = is('Seccomp:', value => value === MODE_FILTER)
  return {
    init: lines.get('Init:'),
    filtered: filtered === true && called !== undefined ? called : filtered,
    noNewPrivileges: is('NoNewPrivs:', value => value === '1'),
    capabilities: lines.get('CapBnd:'),
    memoryLimit: is('Memory:', value => value === String(HELPER.memoryBytes)),
    pidsLimit: is('Pids:', value => value === String(HELPER.pids)),
    cpuLimit: is('Cpu:', value => /^\d/.test(value)),
  }
}
