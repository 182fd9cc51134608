/** What stands in for a page's content while there is none yet. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what}…
    </p>
  )
}

export function Complaint({ text }: { text: string | null }) {
  return text === null ? null : (
    <p class="complaint" role="alert">
      {text}
    </p>
  )
}
