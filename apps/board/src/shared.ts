/**
 * Shares one answer among all who ask within a time, and one question among all who wait for it.
 *
 * @param ms how long an answer is good for; one that failed is good for nobody else
 */
export function shared<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | null = null
  const forget = () => {
    answer = null
  }
  return () => {
    if (answer) return answer
    answer = ask()
    answer.then(() => setTimeout(forget, ms).unref(), forget)
    return answer
  }
}
