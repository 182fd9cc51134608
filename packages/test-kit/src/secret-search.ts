/** A way to write a secret, and what of it is certain to be found. */
export interface SecretForm {
  /** Such as `base64, from its 2nd byte on`. */
  readonly name: string
  readonly text: string
}

const json = (text: string) => JSON.stringify(text).slice(1, -1)

/**
 * How a secret may be written where it was not meant to be: as it is, escaped for JSON (once and twice), for a URL or a
 * form, in hex, and in base64 and base64url wherever in the encoded text it begins, `user:secret` included.
 */
export function secretForms(secret: string): SecretForm[] {
  const once = json(secret)
  return [
    { name: 'as it is', text: secret },
    { name: 'in JSON', text: once },
    { name: 'in JSON in JSON', text: json(once) },
    { name: 'in a URL', text: encodeURIComponent(secret) },
    { name: 'in a form', text: new URLSearchParams({ '': secret }).toString().slice(1) },
    { name: 'in hex', text: Buffer.from(secret).toString('hex') },
    { name: 'in upper-case hex', text: Buffer.from(secret).toString('hex').toUpperCase() },
    ...[0, 1, 2].flatMap(offset => inBase64(secret, offset)),
  ]
}

/** Three bytes are four characters: those that hold bits of what is before or behind the secret are left away. */
function inBase64(secret: string, offset: number): SecretForm[] {
  const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)])
  const whole = bytes.toString('base64').replace(/=+$/, '')
  const text = whole.slice([0, 2, 3][offset], bytes.length % 3 === 0 ? undefined : -1)
  const url = text.replaceAll('+', '-').replaceAll('/', '_')
  return [
    { name: `in base64, ${offset} bytes after a border`, text },
    { name: `in base64url, ${offset} bytes after a border`, text: url },
  ]
}

/**
 * Looks for a secret in whatever form.
 *
 * @returns the names of the forms that are there; empty when it is not
 */
export function findSecret(haystack: Uint8Array | string, secret: string): string[] {
  const bytes = typeof haystack === 'string' ? Buffer.from(haystack) : Buffer.from(haystack)
  return secretForms(secret)
    .filter(({ text }) => bytes.includes(text))
    .map(({ name }) => name)
}
