export { StorageError, type StorageReason } from './errors.js'
export { attemptFolder, EXPIRIES, type Expiry, expiryKey, readExpiryKey } from './keys.js'
export { ObjectStore, type PutFile } from './object-store.js'
export {
  Credentials,
  type S3Settings,
  STORAGE_VARIABLES,
  StorageConfigError,
  type StorageOptions,
  storageOptions,
  storageSettings,
} from './settings.js'
