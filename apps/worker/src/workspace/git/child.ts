import { serveJobs } from '../children/serve.js'
import { runEmpty, runResolve, runSnapshot } from './snapshot-job.js'

serveJobs({ resolve: runResolve, snapshot: runSnapshot, empty: runEmpty })
