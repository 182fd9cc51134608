import { newTaskId, type World } from '../support.js'

/** Tasks of a test that looks at the board. */
export class BoardTasks {
  readonly #world: () => World
  readonly #begun: string[] = []

  constructor(world: () => World) {
    this.#world = world
  }

  readonly enqueue = async (script: string, more: object = {}): Promise<string> => {
    const taskId = newTaskId('board')
    this.#begun.push(taskId)
    await this.#world().producer.enqueue({ taskId, run: { script }, ...more })
    return taskId
  }

  /** Cancels what still goes on, and waits for its end. */
  async end(): Promise<void> {
    const { producer } = this.#world()
    for (const taskId of this.#begun.splice(0))
      if ((await producer.cancel(taskId)) !== 'finished') await producer.waitForResult(taskId)
  }
}
