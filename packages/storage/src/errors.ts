/**
 * Why a bucket could not be used: `unreachable` may pass, `refused` is about credentials and rights, `no_bucket` and
 * `missing` are about what is not there, `damaged` about bytes that are not those that were meant.
 */
export type StorageReason = 'unreachable' | 'refused' | 'no_bucket' | 'missing' | 'damaged'

/** A bucket that could not be used. The message says what and why; `hint` says what to do. */
export class StorageError extends Error {
  readonly reason: StorageReason
  readonly hint: string

  constructor(reason: StorageReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'StorageError'
    this.reason = reason
    this.hint = HINTS[reason]
  }
}

const HINTS: Readonly<Record<StorageReason, string>> = {
  unreachable: 'check AGIRUNNER_S3_ENDPOINT, and that the server runs and can be reached from here',
  refused:
    'check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile), AGIRUNNER_S3_REGION, and that they may list, read, write and delete in the bucket',
  no_bucket: 'create the bucket that AGIRUNNER_STORAGE names, or correct its name',
  missing: 'its retention may be over; run the task again under another taskId',
  damaged: 'try again; if it stays so, something between here and the server changes bytes',
}

/** Codes of the server's that name no status of their own. */
const REFUSALS =
  /^(AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|CredentialsProviderError|AuthorizationHeaderMalformed|RequestTimeTooSkewed|PermanentRedirect)$/
const DAMAGES = /^(XAmzContentSHA256Mismatch|BadDigest|InvalidDigest|IncompleteBody)$/

/**
 * Says of whatever a client threw what it means.
 *
 * @param what was tried, such as `s3://bucket/key can't be read`
 */
export function explain(error: unknown, what: string): StorageError {
  if (error instanceof StorageError) return error
  const { name = '', message = '', code = '' } = error as { name?: string; message?: string; code?: string }
  const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
  const said = [name, message].filter(text => !UNTOLD.includes(text)).join(': ')
  const why = [status && `the server answered ${status}`, said || code].filter(Boolean).join(', ')
  return new StorageError(reasonOf(name, status), `${what}; ${why || 'no reason was given'}`, error)
}

/** What the client says when it knows nothing. */
const UNTOLD: readonly string[] = ['', 'Error', 'Unknown', 'UnknownError']

function reasonOf(name: string, status: number | undefined): StorageReason {
  if (name === 'NoSuchBucket') return 'no_bucket'
  if (DAMAGES.test(name)) return 'damaged'
  if (REFUSALS.test(name) || status === 401 || status === 403) return 'refused'
  return status === 404 ? 'missing' : 'unreachable'
}
