/** Something that is a secret by its looks, whoever it belongs to. */
export interface Shape {
  readonly prefix: string
  /** The bytes that it may go on with. */
  readonly alphabet: RegExp
  /** How many of them, at least and at most. */
  readonly min: number
  readonly max: number
  /** Whether the prefix itself stays readable. */
  readonly keepsPrefix: boolean
  /** The one byte that must come after it, where that decides; null for any. */
  readonly end: string | null
}

const WORD = /[A-Za-z0-9_]/
const TOKEN = /[A-Za-z0-9_-]/

function token(prefix: string, min: number, alphabet: RegExp = WORD, max = 255): Shape {
  return { prefix, alphabet, min, max, keepsPrefix: false, end: null }
}

function header(prefix: string): Shape {
  return { prefix, alphabet: /[A-Za-z0-9+/=._~-]/, min: 8, max: 4096, keepsPrefix: true, end: null }
}

const SCHEMES = ['Authorization: ', 'authorization: '].flatMap(name =>
  ['Basic ', 'basic ', 'Bearer ', 'bearer ', 'token '].map(scheme => name + scheme),
)

/** Tokens of widely used services, which tell themselves by their first letters, and what protocols carry. */
export const SHAPES: readonly Shape[] = [
  ...['ghp_', 'gho_', 'ghu_', 'ghs_', 'ghr_'].map(prefix => token(prefix, 36)),
  token('github_pat_', 22),
  ...['glpat-', 'gldt-', 'glrt-', 'glptt-'].map(prefix => token(prefix, 20, TOKEN)),
  ...['xoxa-', 'xoxb-', 'xoxp-', 'xoxr-', 'xoxs-'].map(prefix => token(prefix, 20, TOKEN)),
  ...['sk-ant-', 'sk-proj-'].map(prefix => token(prefix, 20, TOKEN)),
  token('AKIA', 16, /[A-Z0-9]/, 16),
  token('npm_', 36, /[A-Za-z0-9]/, 36),
  ...SCHEMES.map(header),
  // User-info of a URL: with a password, or a token in its place.
  { prefix: '://', alphabet: /[^\s/@"'<>?#\\]/, min: 3, max: 1024, keepsPrefix: true, end: '@' },
  {
    prefix: ' PRIVATE KEY-----',
    alphabet: /[A-Za-z0-9+/=\s\\]/,
    min: 64,
    max: 16_384,
    keepsPrefix: true,
    end: null,
  },
]
