import { serveJobs } from '../children/serve.js'
import { runPush } from './push-job.js'
import { runCheckout, runEmpty, runFetch, runResolve } from './snapshot-job.js'

serveJobs({ resolve: runResolve, fetch: runFetch, checkout: runCheckout, empty: runEmpty, push: runPush })
