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
