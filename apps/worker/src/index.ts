export { ConfigError, readConfig } from './config.js'
