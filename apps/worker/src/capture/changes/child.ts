import { serveJobs } from '../../workspace/children/serve.js'
import { runArtifacts } from '../artifacts/collect.js'
import { runChanges } from './job.js'
import { runKeep } from './keep-commits.js'

serveJobs({ artifacts: runArtifacts, changes: runChanges, keep: runKeep })
