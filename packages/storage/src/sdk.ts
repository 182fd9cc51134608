import type { S3Client } from '@aws-sdk/client-s3'
import type { S3Settings } from './settings.js'

type Library = typeof import('@aws-sdk/client-s3') & Pick<typeof import('@aws-sdk/lib-storage'), 'Upload'>

/** The client with the library that it is of. */
export interface Sdk {
  readonly client: S3Client
  readonly library: Library
}

const CONNECT_MS = 5_000
/** Without a byte in either direction. */
const SILENT_MS = 30_000
/** Of one request, the first one included; the SDK rests between them, longer each time. */
const ATTEMPTS = 4

/**
 * Loads the AWS SDK and makes a client. It is loaded here alone, and only when a bucket is used: it takes 0.4 s and 24 MB,
 * which nobody with storage on disk should pay.
 */
export async function openSdk(settings: S3Settings): Promise<Sdk> {
  // On Node 20 the SDK would announce, on every command's stderr, what the pinned version does not yet need.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'
  const [s3, { Upload }] = await Promise.all([import('@aws-sdk/client-s3'), import('@aws-sdk/lib-storage')])
  const { endpoint, region, pathStyle, credentials } = settings
  const client = new s3.S3Client({
    region,
    forcePathStyle: pathStyle,
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENT_MS },
    // Most servers but AWS know neither its trailing checksums nor CRC32. Every body here is a buffer, so its SHA-256 is part
    // of the signature, which servers compare with what they got.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...(endpoint === null ? {} : { endpoint }),
    ...(credentials === null ? {} : { credentials: credentials.reveal() }),
  })
  return { client, library: { ...s3, Upload } }
}
