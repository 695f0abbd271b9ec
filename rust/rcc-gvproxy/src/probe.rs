//! What a try to connect ends with. Refusal is pf's answer (`block return`), and so is silence: on lo0 a packet has no checksum yet
//! when pf looks at it, so pf sends no reset (xnu, `pf_check_proto_cksum` before `pf_send_tcp`). Who calls the probe listens, and
//! connects before and after, so neither is the listener's. Anything else (no descriptor left, no route) says nothing of pf.

use std::io;

/// pf refuses it.
const REFUSED: u8 = 0;
/// It came about, which is what must not be.
const CONNECTED: u8 = 1;
/// It could not be tried.
const UNTRIED: u8 = 2;

/// The exit code.
pub fn end<T>(tried: &io::Result<T>) -> u8 {
    match tried {
        Ok(_) => CONNECTED,
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut) => REFUSED,
        Err(_) => UNTRIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn refusal_and_silence_are_refusal_and_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(end(&TcpStream::connect(to)), 1);
        drop(listener);
        assert_eq!(end(&TcpStream::connect(to)), 0);
        assert_eq!(end::<()>(&Err(io::ErrorKind::TimedOut.into())), 0);
        for error in [libc::EMFILE, libc::EHOSTUNREACH, libc::EADDRNOTAVAIL, libc::EPERM] {
            assert_eq!(end::<()>(&Err(io::Error::from_raw_os_error(error))), 2, "{error}");
        }
    }
}
