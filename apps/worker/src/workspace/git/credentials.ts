/** What a repository's server is told to know who asks. */
export interface Credentials {
  readonly username: string
  readonly password: string
}

const HIDDEN = '***'

/**
 * A text of a server's without the credentials that it was sent: some say them in what they refuse, and what they say
 * goes into results and logs. To be used before a text is cut.
 */
export function withoutSecrets(text: string, credentials: Credentials | null): string {
  if (credentials === null || credentials.password === '') return text
  return formsOf(credentials).reduce((hidden, form) => hidden.replaceAll(form, HIDDEN), text)
}

function formsOf({ username, password }: Credentials): string[] {
  const json = (value: string) => JSON.stringify(value).slice(1, -1)
  const base64 = (value: string) => Buffer.from(value).toString('base64').replace(/=+$/, '')
  return [
    password,
    json(password),
    json(json(password)),
    encodeURIComponent(password),
    new URLSearchParams({ '': password }).toString().slice(1),
    base64(`${username}:${password}`),
    base64(password),
  ]
}

/** Whether credentials for one address may go to another: to the same origin, or to its own https. */
export function sharesCredentials(from: URL, to: URL): boolean {
  if (from.origin === to.origin) return true
  const isUpgrade =
    from.protocol === 'http:' && to.protocol === 'https:' && from.port === '' && to.port === ''
  return isUpgrade && from.hostname === to.hostname
}

/** Takes HTTP credentials out of a request. */
export function dropCredentials(headers: Record<string, string>): void {
  for (const name of Object.keys(headers)) if (name.toLowerCase() === 'authorization') delete headers[name]
}
