/** What stands where something secret was. */
export const REDACTED = '[redacted]'

/**
 * What a secret looks like in free text, and what takes its place. Every repetition is bounded or can't start at each
 * of its own characters, so the work grows with the length of the text and not with its square.
 */
const PATTERNS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g, REDACTED],
  // User-info of a URL, the password alone or with its user.
  [/\b([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'<>]{1,512}@/gi, `$1${REDACTED}@`],
  [/\bgh[opsur]_[A-Za-z0-9]{16,255}|\bgithub_pat_\w{16,255}/g, REDACTED],
  [/\bgl[a-z]{1,6}-[\w-]{16,255}/g, REDACTED],
  [/\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g, REDACTED],
  [/\bxox[abeoprs]-[\w-]{10,255}/g, REDACTED],
  [/\bnpm_[A-Za-z0-9]{30,255}/g, REDACTED],
  [/\bsk-[\w-]{20,255}/g, REDACTED],
  [/\bAIza[\w-]{35}/g, REDACTED],
  // A JSON Web Token: a header and a body that both start with `{"`.
  [/\beyJ[\w-]{8,4096}\.eyJ[\w-]{8,4096}\.[\w-]{0,1024}/g, REDACTED],
  [/\b(bearer\s{1,8})[\w.~+/=-]{8,4096}/gi, `$1${REDACTED}`],
  [
    /\b(authorization["']?\s{0,8}[:=]\s{0,8}["']?(?:basic|token)\s{1,8})[\w.~+/=-]{1,4096}/gi,
    `$1${REDACTED}`,
  ],
  // NAME=value and "name": "value" in a text.
  [
    /((?:password|passwd|passphrase|token|secret|api[_-]?key)["']?\s{0,4}[=:]\s{0,4}["']?)[^\s"'&,;[]{4,4096}/gi,
    `$1${REDACTED}`,
  ],
]

const SECRET_NAME =
  /(?:password|passwd|passphrase|token|secret|credential|authorization|api[_-]?key|private[_-]?key)s?$/i

/**
 * Makes text fit to be shown.
 *
 * @example redactText('fatal: https://me:hunter2@git.example.com/x') // 'fatal: https://[redacted]@git.example.com/x'
 */
export function redactText(text: string): string {
  return PATTERNS.reduce((shown, [pattern, replacement]) => shown.replace(pattern, replacement), text)
}

/**
 * Makes a JSON value fit to be shown: what is named like a secret goes, and everywhere else what looks like one.
 * References to secrets (`{"secretRef": "env:NAME"}`) say where a secret is and not what it is: they stay.
 */
export function redact(value: unknown): unknown {
  if (typeof value === 'string') return redactText(value)
  if (Array.isArray(value)) return value.map(redact)
  if (typeof value !== 'object' || value === null) return value
  // What JSON.stringify would ask for, so that nothing is made after the redaction.
  if ('toJSON' in value && typeof value.toJSON === 'function') return redact(value.toJSON())
  const entries = Object.entries(value).map(([name, inner]) => [
    redactText(name),
    SECRET_NAME.test(name) ? hide(inner) : redact(inner),
  ])
  return Object.fromEntries(entries)
}

/** Everything below a secret name, but for references and for what can't be a secret. */
function hide(value: unknown): unknown {
  if (value === null || value === undefined || typeof value === 'boolean') return value
  if (Array.isArray(value)) return value.map(hide)
  if (typeof value !== 'object') return REDACTED
  if (isReference(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [redactText(name), hide(inner)]))
}

/** `{"secretRef": "env:NAME"}`, with `as` in a task's secrets. */
function isReference(value: object): boolean {
  const { secretRef, as = 'file', ...others } = value as Record<string, unknown>
  const isKnown = as === 'file' || as === 'env' || as === 'both'
  return (
    isKnown &&
    typeof secretRef === 'string' &&
    /^(?:env|file):/.test(secretRef) &&
    Object.keys(others).length === 0
  )
}
