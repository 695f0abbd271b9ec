//! What a worker, or a reader of the log, gives up before it reads anything: dumps, resources, and system calls.
//!
//! Which files can be opened to read is [`super::files`]'s. The filter is an allowlist; whatever else is called kills the process. No program can be started (no execve, no
//! fork), no file written, no socket but TCP and UDP made, nothing bound or listened on, no other process touched.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{getsockopt, sockopt};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Cond, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

/// The most memory a worker may have, in bytes: some buffers for each connection, at most this in all.
const MEMORY: u64 = 512 << 20;
/// The most that a reader of the log may have: one buffer of whole lines.
const READER_MEMORY: u64 = 8 << 20;

/// No dumps, and the end with the supervisor. The supervisor must still be the parent.
pub fn before_anything(supervisor: &str) -> io::Result<()> {
    // SAFETY: prctl and mallopt with these constants take integers only.
    let failed = unsafe {
        // One heap for all threads: they share little, and each heap of its own would be memory of its own.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0
    };
    if failed || nix::unistd::getppid().to_string() != supervisor {
        return Err(io::Error::other("not started by the supervisor"));
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    std::panic::set_hook(Box::new(|_| {}));
    Ok(())
}

/// Whether the supervisor is still there: without it this process is gone already.
pub fn supervisor_lives() -> bool {
    true
}

/// Bounds for a session with at most so many connections.
pub fn limits(connections: u32) -> io::Result<()> {
    // Two sockets a connection, a pipe's two ends where data flows, and some of the worker's own.
    let files = u64::from(connections) * 4 + 256;
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = files.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY)?;
    // Threads exist already; there will be no more.
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    Ok(())
}

/// Installs the filter, on all threads.
pub fn system_calls(launcher: &OwnedFd) -> io::Result<()> {
    by_families(launcher, &[libc::AF_INET, libc::AF_INET6])
}

/// The same for a forwarder's session, which may have another way to the gateway: from a virtual machine to its host.
pub fn forwarder(launcher: &OwnedFd) -> io::Result<()> {
    by_families(launcher, &[libc::AF_INET, libc::AF_INET6, libc::AF_VSOCK])
}

fn by_families(launcher: &OwnedFd, families: &[i32]) -> io::Result<()> {
    // The launcher's connection must be what the filter assumes: no other Unix socket is ever made.
    if getsockopt(launcher, sockopt::SockType) != Ok(nix::sys::socket::SockType::SeqPacket) {
        return Err(io::Error::other("the connection is not SOCK_SEQPACKET"));
    }
    let program = filter(families).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

/// The same for what reads the log to a person: files to read, the descriptors it has, and nothing else.
pub fn reader() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?;
    setrlimit(Resource::RLIMIT_DATA, READER_MEMORY, READER_MEMORY)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    let program = reader_filter().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn reader_filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: Rules = READER.iter().map(|call| (*call, vec![])).collect();
    let get = Cond::new(1, Len::Dword, Op::Eq, u64::from(libc::F_GETFD.cast_unsigned()))?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![get])?]);
    read_only_files(&mut rules)?;
    own_memory(&mut rules)?;
    compiled(rules)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(families: &[i32]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for call in FREE {
        rules.insert(*call, vec![]);
    }
    let eq = |arg, value: i32| Cond::new(arg, Len::Dword, Op::Eq, u64::from(value.cast_unsigned()));
    let rule = SeccompRule::new;

    // socket: TCP and UDP, or what stands for them, of these families.
    let mut sockets = Vec::new();
    for family in families.iter().copied() {
        for (kind, protocols) in
            [(libc::SOCK_STREAM, [0, libc::IPPROTO_TCP]), (libc::SOCK_DGRAM, [0, libc::IPPROTO_UDP])]
        {
            for protocol in protocols {
                sockets.push(rule(vec![eq(0, family)?, masked(1, 0xf, kind.cast_unsigned())?, eq(2, protocol)?])?);
            }
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    read_only_files(&mut rules)?;
    own_memory(&mut rules)?;
    // ioctl: FIONBIO alone.
    rules.insert(libc::SYS_ioctl, vec![rule(vec![Cond::new(1, Len::Dword, Op::Eq, libc::FIONBIO)?])?]);
    // fcntl: flags, duplicates, and the size of a pipe.
    let commands =
        [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC, libc::F_SETPIPE_SZ];
    rules.insert(libc::SYS_fcntl, commands.iter().map(|c| rule(vec![eq(1, *c)?])).collect::<Result<_, _>>()?);
    // setsockopt: what the relay sets; no filters, no repair, no upper-layer protocols.
    let options = [
        (libc::SOL_SOCKET, libc::SO_LINGER),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    ];
    let options = options.iter().map(|(level, name)| rule(vec![eq(1, *level)?, eq(2, *name)?]));
    rules.insert(libc::SYS_setsockopt, options.collect::<Result<_, _>>()?);
    // madvise frees; prctl names memory (glibc 2.40's malloc) and threads.
    let names = [libc::PR_SET_VMA, libc::PR_SET_NAME];
    rules.insert(libc::SYS_prctl, names.iter().map(|n| rule(vec![eq(0, *n)?])).collect::<Result<_, _>>()?);
    compiled(rules)
}

/// openat: to read only.
fn read_only_files(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let writing =
        (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | (libc::O_TMPFILE & !libc::O_DIRECTORY))
            .cast_unsigned();
    rules.insert(libc::SYS_openat, vec![SeccompRule::new(vec![masked(2, writing, 0)?])?]);
    Ok(())
}

/// mmap, mprotect: no executable memory. A panic aborts: a signal to itself.
fn own_memory(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let exec = libc::PROT_EXEC.cast_unsigned();
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![masked(2, exec, 0)?])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![masked(2, exec, 0)?])?]);
    let me = Cond::new(0, Len::Dword, Op::Eq, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![me])?]);
    Ok(())
}

fn masked(arg: u8, mask: u32, value: u32) -> Result<Cond, seccompiler::BackendError> {
    Cond::new(arg, Len::Dword, Op::MaskedEq(mask.into()), value.into())
}

fn compiled(rules: Rules) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

/// Calls that are allowed whatever their arguments: on descriptors that exist, on the process's own memory and time.
const FREE: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_close,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What reading a file and sending its lines takes.
const READER: &[i64] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_sendto,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
