/** What a browser may do with an answer of the board, whatever it is. */
export const HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
} as const

const EVERYWHERE = ["base-uri 'self'", "form-action 'self'", "frame-ancestors 'none'"]

/**
 * The policy of the board's own pages: its own files, and nothing written into a page.
 *
 * @param script the SHA-256 of the one script that a page holds itself, in base64
 */
export function strictPolicy(script: string): string {
  return [
    "default-src 'none'",
    `script-src 'self' 'sha256-${script}'`,
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    ...EVERYWHERE,
  ].join('; ')
}

/** Bull Board sets styles in attributes. */
export const QUEUES_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  ...EVERYWHERE,
].join('; ')

/** For bytes that a task made: nothing in them is to come alive, should a browser show them after all. */
export const FOREIGN_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
