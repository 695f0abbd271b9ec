//! What a worker that was taken over can open: system calls made in it by a debugger's means, which root has.

use crate::POLICY;
use crate::launcher::workers;
use crate::world::*;
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};

/// `open(path, O_RDONLY)` in the process: a descriptor, or an error's number below zero.
fn opens(worker: Pid, path: &str) -> i64 {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    ptrace::attach(worker).unwrap();
    waitpid(worker, None).unwrap();
    let before = ptrace::getregs(worker).unwrap();
    let memory = fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{worker}/mem")).unwrap();
    // It waits in a system call, so the instruction before this one is one; the path goes below the stack's red zone.
    let mut instruction = [0; 2];
    memory.read_exact_at(&mut instruction, before.rip - 2).unwrap();
    assert_eq!(instruction, SYSCALL, "the worker waits");
    let at = before.rsp - 4096;
    memory.write_all_at(format!("{path}\0").as_bytes(), at).unwrap();
    let mut call = before;
    (call.rip, call.rax, call.orig_rax) = (before.rip - 2, libc::SYS_openat as u64, u64::MAX);
    (call.rdi, call.rsi, call.rdx) = (i64::from(libc::AT_FDCWD).cast_unsigned(), at, libc::O_RDONLY as u64);
    ptrace::setregs(worker, call).unwrap();
    ptrace::step(worker, None).unwrap();
    waitpid(worker, None).unwrap();
    let result = ptrace::getregs(worker).unwrap().rax.cast_signed();
    ptrace::setregs(worker, before).unwrap();
    ptrace::detach(worker, None).unwrap();
    result
}

#[test]
fn a_worker_that_was_taken_over_opens_neither_log_nor_keys_nor_anything_else() {
    in_world("confined::a_worker_that_was_taken_over_opens_neither_log_nor_keys_nor_anything_else", || {
        let policy = format!("ca_bundle = \"/etc/rcc/ca.pem\"\n{POLICY}");
        let world = World::new(&policy);
        for (file, mode) in [("/etc/rcc/ca.pem", 0o644), ("/etc/rcc/key", 0o640)] {
            fs::write(file, "x").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            chown(file, Some(0), Some(RCC)).unwrap();
        }
        // Its supervisor, the same user without Landlock, reads each of them: the control, by the files' own permissions.
        let _session = world.session(9000);
        let supervisor = Pid::from_raw(i32::try_from(world.gateway.id()).unwrap());
        let worker = Pid::from_raw(workers(world.gateway.id())[0]);
        let closed = [
            "/var/log/rcc/gateway.jsonl",
            "/etc/rcc/key",
            "/etc/rcc/policy.toml",
            "/etc/passwd",
            "/etc/resolv.conf",
            "/proc/self/status",
            "/proc/self/maps",
            "/run/bin/rcc-gateway",
            "/",
        ];
        for path in closed {
            assert!(opens(supervisor, path) >= 0, "the control: {path}");
            assert_eq!(opens(worker, path), -i64::from(libc::EACCES), "{path}");
        }
        for path in ["/proc/net/route", "/proc/net/fib_trie", "/etc/rcc/ca.pem"] {
            assert!(opens(worker, path) >= 0, "what it needs: {path}");
        }
        world.log_with(&["\"event\":\"session\"", "\"files\":\"confined by Landlock"]);
    });
}

#[test]
fn a_worker_follows_resolv_conf_without_opening_it() {
    in_world("confined::a_worker_follows_resolv_conf_without_opening_it", || {
        let world = World::new(POLICY);
        world.name("allowed.example", &["11.1.2.3"]);
        world.server(9000, echo);
        fs::write("/etc/resolv.conf", "nameserver 10.77.0.9\n").unwrap();
        let session = world.session(9000);
        let mut dead = session.connect("allowed.example");
        assert!(is_dead(&mut dead), "the control: nobody is at that address");
        fs::write("/etc/resolv.conf.new", "nameserver 10.77.0.1\n").unwrap();
        fs::rename("/etc/resolv.conf.new", "/etc/resolv.conf").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let mut alive = session.connect("allowed.example");
        std::io::Write::write_all(&mut alive, b"\0one").unwrap();
        let mut answer = [0; 4];
        std::io::Read::read_exact(&mut alive, &mut answer).unwrap();
    });
}
