/** What a task may pass, by the failure that this is. */
export type Limit = 'task.log_limit' | 'task.disk_full' | 'task.output_limit'
