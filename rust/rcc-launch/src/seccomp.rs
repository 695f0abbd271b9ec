//! The system calls of a session: an own list, stricter than Podman's default, in the form that OCI runtimes read
//! (OCI runtime specification, "Seccomp"; libseccomp's rules for arguments). Pure.
//!
//! What is not listed does not exist (`ENOSYS`): programs fall back, as on an older kernel. What a program may rightly ask
//! about and be refused is `EPERM`. One architecture only, so that no foreign call numbers slip past.

use serde_json::{Value, json};

/// What programs of every kind need. Names that this kernel or libseccomp does not know are passed over by the runtime.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown chown32
    clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
    close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
    epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
    futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue futimesat get_mempolicy get_robust_list
    get_thread_area getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
    getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioprio_get ioprio_set kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
    listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise mbind membarrier memfd_create mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open
    openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd
    signalfd4 splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat
    utimensat_time64 utimes vfork wait4 waitid waitpid write writev";

/// What a program may rightly try, and is refused.
const REFUSED: &str = "
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig
    fsmount fsopen fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mount
    mount_setattr move_mount name_to_handle_at open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
    process_vm_readv process_vm_writev ptrace quotactl reboot request_key setdomainname sethostname setns settimeofday
    swapoff swapon syslog umount2 unshare userfaultfd vhangup";

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// `clone` flags that make a namespace: mount, cgroup, uts, ipc, user, pid, net (linux/sched.h).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// `ioctl` requests that put input into a terminal: TIOCSTI and TIOCLINUX (`ioctl_tty(2)`, `ioctl_console(2)`).
const FORBIDDEN_IOCTLS: [u32; 2] = [0x5412, 0x541c];

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
/// One more than the highest family of linux/socket.h.
const AF_MAX: u64 = 46;
/// The socket type without `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
const TYPE_MASK: u64 = 0xf;

/// The profile for one architecture, as `std::env::consts::ARCH` names it; `None` where rcc has no profile.
#[must_use]
pub fn profile(architecture: &str) -> Option<Value> {
    let architecture = match architecture {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        _ => return None,
    };
    let mut rules = vec![allow(ALLOWED.split_whitespace(), &[]), refuse(REFUSED.split_whitespace(), EPERM, &[])];
    rules.extend(sockets());
    rules.push(allow(["socketpair"], &[equal(0, AF_UNIX)]));
    // clone without a new namespace; clone3 hides its flags in memory, so it does not exist and glibc uses clone.
    rules.push(allow(["clone"], &[masked(0, CLONE_NAMESPACES, 0)]));
    rules.push(refuse(["clone3"], ENOSYS, &[]));
    rules.extend(ioctls());
    // PER_LINUX, and asking; not ADDR_NO_RANDOMIZE.
    rules.extend([0, 0xffff_ffff].map(|persona| allow(["personality"], &[equal(0, persona)])));
    Some(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": [architecture],
        "syscalls": rules,
    }))
}

/// Sockets by (family, type, protocol), since SMC, MPTCP, SCTP, DCCP and UDP-Lite ride on `AF_INET`, and netlink beyond
/// rtnetlink is a wide kernel surface.
fn sockets() -> Vec<Value> {
    let (stream, datagram, raw, packets) = (1, 2, 3, 5);
    let mut triples = vec![(AF_UNIX, stream, 0), (AF_UNIX, datagram, 0), (AF_UNIX, packets, 0)];
    for family in [AF_INET, AF_INET6] {
        triples.extend([(family, stream, 0), (family, stream, 6), (family, datagram, 0), (family, datagram, 17)]);
    }
    // glibc's getifaddrs and if_nametoindex ask rtnetlink (protocol 0), and get this namespace's lo.
    triples.extend([(AF_NETLINK, raw, 0), (AF_NETLINK, datagram, 0)]);
    let mut rules: Vec<Value> = triples
        .into_iter()
        .map(|(family, kind, protocol)| {
            allow(["socket"], &[equal(0, family), masked(1, TYPE_MASK, kind), equal(2, protocol)])
        })
        .collect();
    let known = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
    let others = (0..AF_MAX).filter(|family| !known.contains(family));
    rules.extend(others.map(|family| refuse(["socket"], EAFNOSUPPORT, &[equal(0, family)])));
    rules
}

/// All `ioctl`s but the forbidden ones, compared in the 32 bits that the kernel looks at (the high ones would slip
/// past a comparison of 64: CVE-2019-10063). libseccomp has no masked "not equal", so the complement is spelled out:
/// requests that differ from both in a bit that both share, and the other combinations of the bits in which they differ.
fn ioctls() -> Vec<Value> {
    let [a, b] = FORBIDDEN_IOCTLS;
    let differing = a ^ b;
    let mut rules: Vec<Value> = (0..32)
        .map(|bit| 1_u32 << bit)
        .filter(|bit| differing & bit == 0)
        .map(|bit| allow(["ioctl"], &[masked(1, u64::from(bit), u64::from(!a & bit))]))
        .collect();
    let free = (0..=u8::MAX).map(u32::from).filter(|low| low & !differing == 0);
    rules.extend(free.filter_map(|low| {
        let request = (a & !differing) | low;
        let fine = !FORBIDDEN_IOCTLS.contains(&request);
        fine.then(|| allow(["ioctl"], &[masked(1, 0xffff_ffff, u64::from(request))]))
    }));
    rules
}

fn allow<'a>(names: impl IntoIterator<Item = &'a str>, arguments: &[Value]) -> Value {
    let names: Vec<&str> = names.into_iter().collect();
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": arguments })
}

fn refuse<'a>(names: impl IntoIterator<Item = &'a str>, errno: i32, arguments: &[Value]) -> Value {
    let names: Vec<&str> = names.into_iter().collect();
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments })
}

fn equal(index: u8, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

/// `argument & mask == value`
fn masked(index: u8, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        for name in REFUSED.split_whitespace() {
            assert!(!ALLOWED.split_whitespace().any(|a| a == name), "{name}");
        }
    }

    #[test]
    fn the_dangerous_ones_are_not_allowed() {
        let dangerous = "io_uring_setup bpf ptrace keyctl userfaultfd perf_event_open mount unshare setns socket clone \
                         clone3 ioctl personality process_madvise memfd_secret fanotify_mark modify_ldt socketcall \
                         vmsplice io_setup";
        for name in dangerous.split_whitespace() {
            assert!(!ALLOWED.split_whitespace().any(|a| a == name), "{name} is allowed without a condition");
        }
    }

    /// The rules for ioctl, evaluated as the kernel's filter would.
    fn ioctl_allowed(request: u64) -> bool {
        ioctls().iter().any(|rule| {
            let argument = &rule["args"][0];
            request & argument["value"].as_u64().unwrap() == argument["valueTwo"].as_u64().unwrap()
        })
    }

    proptest::proptest! {
        #[test]
        fn every_ioctl_but_two_passes(request: u64) {
            let forbidden = FORBIDDEN_IOCTLS.iter().any(|f| u64::from(*f) == request & 0xffff_ffff);
            proptest::prop_assert_eq!(ioctl_allowed(request), !forbidden);
        }

        #[test]
        fn the_two_are_refused_whatever_the_high_bits(high: u32) {
            for request in FORBIDDEN_IOCTLS {
                proptest::prop_assert!(!ioctl_allowed(u64::from(high) << 32 | u64::from(request)));
            }
        }
    }

    #[test]
    fn terminals_work() {
        for request in [0x5401, 0x5402, 0x5413, 0x5414, 0x540f, 0x5410] {
            assert!(ioctl_allowed(request));
        }
    }
}
