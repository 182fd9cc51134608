import { serveJobs } from '../children/serve.js'
import { runCopy } from './copy-job.js'

serveJobs({ copy: runCopy })
