/** No call but a pull and a wait may take longer: an engine that answers later is as good as gone. In milliseconds. */
const CALL_MS = 60_000

/** dockerode has no deadline of its own, and a frozen engine never answers. */
export async function timed<T>(call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CALL_MS / 1000} s`)), CALL_MS)
  })
  try {
    return await Promise.race([call, late])
  } finally {
    clearTimeout(timer)
  }
}
