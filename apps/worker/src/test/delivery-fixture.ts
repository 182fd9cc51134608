import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TaskFailure } from '@agirunner/contracts'
import { git } from '@agirunner/test-kit'
import type { CapturedOutputs } from '../capture/capture.js'
import type { ChangesCapture } from '../capture/changes/index.js'
import { commitRequest, withCommit } from '../capture/commit.js'
import { type Delivered, deliver } from '../capture/push.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { Workspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'

export interface DeliveryOptions {
  readonly room: Workspaces
  readonly capture: ChangesCapture
  readonly accepted: AcceptedTask
  readonly plan: WorkspacePlan
  readonly failure?: TaskFailure | null
  readonly signal?: AbortSignal
  readonly stillCurrent?: () => Promise<void>
}

/** Captures and delivers a workspace as an attempt does once its container has ended. */
export async function captureAndDeliver(options: DeliveryOptions): Promise<Delivered & { folder: string }> {
  const { room, capture, accepted, plan, failure = null, stillCurrent = async () => undefined } = options
  const signal = options.signal ?? new AbortController().signal
  const folder = join(plan.slot.root, 'stored')
  await mkdir(folder, { recursive: true })
  await plan.delivery.collect('repo', signal)
  const make = commitRequest(accepted, plan, folder)
  const patchFile = join(folder, 'changes.patch')
  const { changes, patch, made } = await capture.capture({ plan, patchFile, make, signal })
  const stored = patch && { uri: pathToFileURL(patchFile).href, ...patch }
  // Of what else an attempt leaves, delivery reads nothing.
  const outputs = {
    changes: withCommit({ ...changes, patch: stored }, make, made),
    made,
  } as unknown as CapturedOutputs
  const delivered = await deliver(
    {
      push: (...args) => room.push(...args),
      keepCommits: one => capture.keepCommits(one),
      stillCurrent,
    },
    { accepted, plan, outputs, failure, signal, progress: () => undefined },
  )
  return { ...delivered, folder }
}

/** Takes a bundle into a clone, by the real git, and checks all that came. @returns the commit */
export async function fetchBundle(clone: string, bundle: string): Promise<string> {
  await git(['bundle', 'verify', bundle], { cwd: clone })
  await git(['fetch', '--quiet', bundle, 'HEAD'], { cwd: clone })
  await git(['fsck', '--strict', '--no-dangling'], { cwd: clone })
  return await git(['rev-parse', 'FETCH_HEAD'], { cwd: clone })
}
