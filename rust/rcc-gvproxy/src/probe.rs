//! What a try to connect ends with. Refusal is pf's answer (`block return`) or nobody's who listens there; who calls the probe
//! listens, and connects before and after. Anything else (no descriptor left, no route, no answer) says nothing of pf.

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
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => REFUSED,
        Err(_) => UNTRIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn refusal_alone_is_refusal() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(end(&TcpStream::connect(to)), 1);
        drop(listener);
        assert_eq!(end(&TcpStream::connect(to)), 0);
        for error in [libc::EMFILE, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::EADDRNOTAVAIL, libc::EPERM] {
            assert_eq!(end::<()>(&Err(io::Error::from_raw_os_error(error))), 2, "{error}");
        }
    }
}
