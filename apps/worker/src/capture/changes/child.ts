import { serveJobs } from '../../workspace/children/serve.js'
import { runChanges } from './job.js'
import { runKeep } from './keep-commits.js'

serveJobs({ changes: runChanges, keep: runKeep })
