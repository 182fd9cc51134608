const READ = `echo "commit:  $(git log -1 --format='%h %s')"
echo "branch:  $(git rev-parse --abbrev-ref HEAD)"
echo "files:   $(git ls-files | wc -l)"
echo "I am $(id -un 2>/dev/null || id -u) in $(pwd), on $(uname -sm), with nobody else: $(ls /proc | grep -c '^[0-9]') processes"`

const CHANGE = `mkdir -p agent
{ echo '# What the repository holds'; echo
  git ls-files | sed -n 's/.*\\.\\([A-Za-z0-9]*\\)$/\\1/p' | sort | uniq -c | sort -rn | head -10 | while read count kind; do echo "- $count $kind"; done
} > agent/report.md
cat agent/report.md
git add agent/report.md
git commit --quiet --message 'Add a report on what the repository holds'
echo "committed: $(git log -1 --format='%h %s')"`

const LEAVE = `readme=$(git ls-files | grep -i '^readme' | head -n 1)
printf '\\nAn agent was here.\\n' >> "\${readme:-README.md}"
git status --short`

const REPORT = `printf '{"files": %d, "commits": %d}\\n' "$(git ls-files | wc -l)" "$(git rev-list --count HEAD)" \\
  > ../output/result.json
cat ../output/result.json`

/**
 * The task of the demo: it reads a repository, changes and adds files, commits once, leaves one change uncommitted and
 * writes output/result.json.
 * @param {{taskId: string, url: string, ref: string | null, script: string | null}} options
 * @returns {object} as the platform would send it
 */
export function taskOf({ taskId, url, ref, script }) {
  const steps = [
    { name: 'read', script: READ },
    { name: 'change and commit', script: CHANGE },
    { name: 'leave a change uncommitted', script: LEAVE },
    { name: 'report', script: REPORT },
  ]
  return {
    version: 1,
    taskId,
    tenantId: 'demo',
    labels: { workflow: 'demo', role: 'developer' },
    workspace: { source: { type: 'git_remote', url, ...(ref === null ? {} : { ref }) } },
    environment: { image: 'debian-base', resources: { cpu: 1, memory: '512Mi', pids: 128 } },
    run: script === null ? { steps } : { script },
    limits: { timeout: 600 },
    capture: { changes: 'patch', retention: 'days:1' },
  }
}
