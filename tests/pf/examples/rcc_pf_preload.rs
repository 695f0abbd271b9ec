//! Preloaded: `/dev/pf` opens, and its calls come to a kernel in the folder that `RCC_PF_FOLDER` names.

use libc::{c_char, c_int, c_long, c_ulong, c_void, mode_t};
use rcc_pf_rig::fault::{self, How};
use rcc_pf_rig::kernel::{Inactive, Kernel, name};
use rcc_pf_rig::layout::TRANS_E;
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(std::env::var_os("RCC_PF_FOLDER").expect("the folder is named")));
/// What is not committed; the tickets, which no file needs.
static OPEN: LazyLock<Mutex<(Inactive, (u32, u32))>> = LazyLock::new(Mutex::default);

/// The C library's, but for `/dev/pf`.
///
/// # Safety
/// As of open(2). On `x86_64` what is variable is passed as what is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's path ends with a zero; system calls with what it gave.
    unsafe {
        let pf = CStr::from_ptr(path).to_bytes() == b"/dev/pf";
        let path = if pf { c"/dev/null".as_ptr() } else { path };
        let opened = libc::syscall(
            libc::SYS_openat,
            c_long::from(libc::AT_FDCWD),
            path,
            c_long::from(flags),
            c_long::from(mode),
        );
        c_int::try_from(opened).unwrap_or(-1)
    }
}

/// The C library's, but for calls of `D`.
///
/// # Safety
/// As of ioctl(2): behind `data` lies what the call's number says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, data: *mut c_void) -> c_int {
    if request >> 8 & 0xff != c_ulong::from(b'D') {
        // SAFETY: passed on as it came.
        let done = unsafe { libc::syscall(libc::SYS_ioctl, c_long::from(fd), request, data) };
        return c_int::try_from(done).unwrap_or(-1);
    }
    let [.., call] = request.to_be_bytes();
    let how = fault::call(&FOLDER, name(call));
    let done = match how {
        Some(How::Fails) => Err(libc::EBUSY),
        Some(How::Before) => end(),
        // SAFETY: the caller's promise.
        _ => unsafe { dispatch(call, (request >> 16 & 0x3fff) as usize, data) },
    };
    if how == Some(How::After) {
        end();
    }
    match done {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: this thread's own.
            unsafe { *libc::__errno_location() = error };
            -1
        }
    }
}

/// # Safety
/// Behind `data` lie `size` bytes, of the call's structure.
unsafe fn dispatch(call: u8, size: usize, data: *mut c_void) -> Result<(), c_int> {
    let mut open = OPEN.lock().expect("one thread");
    // What only prepares a transaction changes, and needs, nothing of what is kept.
    let kept = if matches!(call, 4 | 51 | 81) { Kernel::default() } else { Kernel::read(&FOLDER) };
    let mut kernel = Kernel { tickets: open.1, ..kept };
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), size) };
    let changed = if matches!(call, 81 | 82) {
        let number = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (count, each) = (number(0), number(4));
        assert_eq!(usize::try_from(each), Ok(TRANS_E), "esize");
        // SAFETY: the structure's pointer is to so many elements of that size.
        let elements = unsafe {
            let array: *mut u8 = bytes[8..16].as_ptr().cast::<*mut u8>().read_unaligned();
            std::slice::from_raw_parts_mut(array, usize::try_from(count).expect("a count") * TRANS_E)
        };
        if call == 81 {
            kernel.begin(&mut open.0, elements)?;
            false
        } else {
            kernel.commit(&mut open.0, elements)?;
            true
        }
    } else {
        kernel.rule_call(&mut open.0, call, bytes)?
    };
    open.1 = kernel.tickets;
    if changed {
        kernel.tickets = (0, 0);
        kernel.keep(&FOLDER);
    }
    Ok(())
}

fn end() -> ! {
    // SAFETY: this process, by its own number.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort()
}
