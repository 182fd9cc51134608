import { parentPort, workerData } from 'node:worker_threads'
import { compileOutputSchema } from '@agirunner/contracts/output-schema'

/** What the thread is given, and what it answers: why the schema can't be used, or what is wrong with the value. */
export interface OutputQuestion {
  readonly schema: Readonly<Record<string, unknown>>
  readonly value: unknown
}
export type OutputAnswer = { readonly schemaProblem: string } | { readonly problems: readonly string[] }

function answer({ schema, value }: OutputQuestion): OutputAnswer {
  try {
    return { problems: compileOutputSchema(schema)(value) }
  } catch (error) {
    return { schemaProblem: (error as Error).message }
  }
}

parentPort?.postMessage(answer(workerData as OutputQuestion))
