/** What a bootstrap may count on, and the gate with it. */
const REQUIRED = ['sh', 'cat', 'mkdir', 'mv', 'chmod', 'rm', 'cp', 'sleep', 'env'] as const

/** What is asked for its version, and how. The first line that it prints is taken. */
const RUNTIMES: Readonly<Record<string, string>> = {
  git: 'git --version',
  python3: 'python3 --version',
  node: 'node --version',
  go: 'go version',
  rustc: 'rustc --version',
  java: 'java -version',
  php: 'php --version',
  perl: "perl -e 'print $^V'",
  ruby: 'ruby --version',
  gcc: 'gcc --version',
  make: 'make --version',
}
const MANAGERS = ['apt-get', 'dnf', 'microdnf', 'yum', 'apk', 'zypper', 'pacman']
const CERTIFICATES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
]

/**
 * Says what an image holds, one fact a line: `missing NAME`, `manager NAME`, `os KEY=VALUE`, `libc TEXT`, `user TEXT`,
 * `certificates`, `checked` once all that is required was looked for, `runtime NAME TEXT`, `end`. It prints by the shell's
 * own words, because the image may have nothing else.
 */
export const VERIFICATION_SCRIPT = [
  `has() { command -v "$1" >/dev/null 2>&1; }`,
  // The last line may have no newline.
  `first() { while IFS= read -r line || [ -n "$line" ]; do [ -z "$line" ] || { echo "$line"; return; }; done; }`,
  `for name in ${REQUIRED.join(' ')}; do has "$name" || echo "missing $name"; done`,
  'echo checked',
  `for name in ${MANAGERS.join(' ')}; do if has "$name"; then echo "manager $name"; break; fi; done`,
  'if [ -r /etc/os-release ]; then while IFS= read -r line; do echo "os $line"; done </etc/os-release; fi',
  `for file in ${CERTIFICATES.join(' ')}; do if [ -s "$file" ]; then echo certificates; break; fi; done`,
  'if has id; then echo "user $(id 2>&1 | first)"; fi',
  'for file in /lib/ld-musl-*; do [ -e "$file" ] && echo "libc musl"; done',
  'if has getconf; then echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null | first)"; fi',
  ...Object.entries(RUNTIMES).map(
    ([name, version]) =>
      `if has ${name}; then echo "runtime ${name} $(${version} 2>&1 </dev/null | first)"; fi`,
  ),
  'echo end',
].join('\n')
