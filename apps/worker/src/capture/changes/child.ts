import { serveJobs } from '../../workspace/children/serve.js'
import { runChanges } from './job.js'

serveJobs({ changes: runChanges })
