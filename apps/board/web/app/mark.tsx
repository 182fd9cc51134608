export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 16 16" width="18" height="18" aria-hidden="true">
      <path d="M1 8 8 1l7 7-7 7z" fill="currentColor" opacity=".25" />
      <path d="m5 8 3-3 3 3-3 3z" fill="currentColor" />
    </svg>
  )
}
