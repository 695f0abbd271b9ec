//! Packets with file descriptors over a Unix `SOCK_SEQPACKET` socket, for launcher and hook; on a Mac without descriptors.

#[cfg(target_os = "linux")]
pub use by_kernel::{receive, send};
#[cfg(not(target_os = "linux"))]
pub use without_descriptors::{receive, send};

#[cfg(target_os = "linux")]
mod by_kernel {
    use nix::cmsg_space;
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
    use rcc_proto::{LISTEN_SOCKETS, MAX_PACKET, MOST_DESCRIPTORS};
    use serde::{Serialize, de::DeserializeOwned};
    use std::io::{self, IoSlice, IoSliceMut};
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

    /// Sends one message with descriptors.
    pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
        let bytes = rcc_proto::encode(message).map_err(io::Error::other)?;
        let rights = [ControlMessage::ScmRights(fds)];
        let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None)?;
        Ok(())
    }

    /// Receives one message with its descriptors; `None` at the end of the conversation.
    pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = zeroize::Zeroizing::new(vec![0_u8; MAX_PACKET]);
        let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let packet = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let mut fds = Vec::new();
        for control in packet.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel just put these descriptors into this process; nothing else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let (length, cut) = (packet.bytes, packet.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
        if length == 0 {
            return Ok(None);
        }
        if cut || fds.len() > LISTEN_SOCKETS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more in a packet than the protocol allows"));
        }
        let message = rcc_proto::decode(&bytes[..length]).map_err(io::Error::other)?;
        Ok(Some((message, fds)))
    }
}

#[cfg(not(target_os = "linux"))]
mod without_descriptors {
    use rcc_proto::MAX_PACKET;
    use serde::{Serialize, de::DeserializeOwned};
    use std::io;
    use std::os::fd::{AsFd, OwnedFd, RawFd};

    /// Sends one message. Descriptors can't come along.
    pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
        if !fds.is_empty() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        rcc_host::packets::send(socket, &rcc_proto::encode(message).map_err(io::Error::other)?)
    }

    /// Receives one message; `None` at the end of the conversation.
    pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = zeroize::Zeroizing::new(vec![0_u8; MAX_PACKET]);
        match rcc_host::packets::receive(socket, &mut bytes)? {
            0 => Ok(None),
            n => Ok(Some((rcc_proto::decode(&bytes[..n]).map_err(io::Error::other)?, Vec::new()))),
        }
    }
}
