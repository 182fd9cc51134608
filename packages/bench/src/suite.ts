import type { Producer } from '@agirunner/producer'
import type { TestWorker } from '@agirunner/test-kit'
import type Docker from 'dockerode'
import type { Rounds } from './rounds.js'
import type { Target } from './target.js'

/** A worker on a queue of its own, and who sends it tasks. */
export interface Station {
  readonly worker: TestWorker
  readonly producer: Producer
  readonly stop: () => Promise<void>
}

/** What every benchmark finds ready. */
export interface Stage {
  readonly image: string
  readonly docker: Docker
  readonly dockerHost: string
  readonly redisUrl: string
  readonly dataDir: string
  /** For files of contenders; on the disk of the workers' data. */
  readonly folder: string
  /** The folder of the git server's repositories, and its address. */
  readonly git: { readonly root: string; readonly url: string }
  /** A small repository, made when it is first asked for. */
  readonly repository: (name: string) => Promise<{ readonly url: string; readonly commit: string }>
  /** A worker with the defaults of tests, started when it is first asked for. */
  readonly shared: () => Promise<Station>
  /** Another one; who asked stops it, or the end does. */
  readonly start: (env: Readonly<Record<string, string>>) => Promise<Station>
  /** To be done at the end, the last first. */
  readonly release: (() => Promise<unknown>)[]
  readonly say: (line: string) => void
}

export interface Plan {
  readonly rounds: Rounds
  /** As among all of them: each leaves out what takes long and tells little more. */
  readonly brief: boolean
  /** Over how many tasks the worker's memory has to stay flat. */
  readonly tasks: number
}

export interface Found {
  /** Everything that was measured, for the JSON. */
  readonly samples: unknown
  /** Tables, for a person. */
  readonly text: string
  readonly targets?: readonly Target[]
}

export interface Suite {
  readonly name: string
  readonly about: string
  readonly alone: Rounds
  /** When all of them run, one after another; null for one that takes too long to be among them. */
  readonly together: Rounds | null
  readonly run: (stage: Stage, plan: Plan) => Promise<Found>
}
