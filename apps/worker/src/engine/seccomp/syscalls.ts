/**
 * The system calls of a task, by what they are for. A name that an engine's libseccomp does not know is left out by it,
 * and a program that makes that call is told ENOSYS, so that it does without.
 *
 * What is not here is refused; `profile.ts` says what with. In the words of the kernel's own documentation, none of these
 * gives a process without capabilities a hold on anything but itself, its children, its files and its sockets.
 */
const GROUPS: Readonly<Record<string, string>> = {
  files: `access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat open openat openat2 readahead readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs
    statfs64 statx symlink symlinkat sync sync_file_range syncfs truncate truncate64 umask unlink unlinkat utime
    utimensat utimensat_time64 utimes`,
  'reading and writing': `pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv sendfile sendfile64 splice tee
    vmsplice write writev io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit`,
  'attributes of files': `fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr
    listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat`,
  'waiting for files': `epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect poll ppoll
    ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4`,
  // Not `socket`, which is allowed by family.
  sockets: `accept accept4 bind connect getpeername getsockname getsockopt listen pipe pipe2 recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair`,
  // Not `clone` and `clone3`, which could make namespaces.
  processes: `execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid kill pause pidfd_open
    pidfd_send_signal prctl process_mrelease set_tid_address setpgid setsid tgkill times tkill vfork wait4 waitid
    waitpid`,
  'who a process is': `capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid
    setuid32`,
  signals: `alarm restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn`,
  memory: `brk cachestat madvise map_shadow_stack memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
    mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages`,
  threads: `futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area membarrier
    rseq set_robust_list set_thread_area`,
  'sharing between processes': `ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat
    shmctl shmdt shmget`,
  // To set a clock takes a capability too; to read its adjustment takes none.
  time: `adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64`,
  scheduling: `getcpu getpriority ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield setpriority`,
  'limits and facts': `getrandom getrlimit getrusage prlimit64 setrlimit sysinfo ugetrlimit uname`,
  // A browser, a language server or a test runner may lock itself in further.
  sandboxing: `landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp`,
  // Since Linux 4.8 a tracer can't get its child past a filter; Yama, ids and namespaces decide on whom it may trace.
  debugging: `process_vm_readv process_vm_writev ptrace`,
  // Names that only one architecture has; the others pass over them.
  architecture: `arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2
    uretprobe`,
}

/** Every call that needs no look at its arguments. */
export const ALLOWED: readonly string[] = Object.values(GROUPS).flatMap(names => names.split(/\s+/))

/**
 * Refused as if the kernel did not have them, so that libraries fall back.
 *
 * `clone3` takes its flags by a pointer, which a filter can't follow; glibc then calls `clone`. io_uring does its work past
 * every filter. `socketcall` is how old 32-bit programs open sockets, with the family behind a pointer; without a rule of
 * its own libseccomp allows it for every family as soon as `socket` is allowed for one.
 */
export const NOT_THERE: readonly string[] = [
  'clone3',
  'io_uring_enter',
  'io_uring_register',
  'io_uring_setup',
  'socketcall',
]
