//! What moves in a world is seen; and what can't be known to be unseen isn't said to be.

use std::net::{SocketAddr, UdpSocket};

use anyhow::Result;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use rcc_world::map::{SINK4, SINK6};
use rcc_world::{Setup, World, inside, inside_with, token};

use crate::client::connect;

fn seen(world: &World, token: &str, proto: &str) -> Result<()> {
    let packets = world.packets_containing(token)?;
    // at the host's end going out, at the other coming in
    assert!(packets.iter().any(|p| p.proto == proto && p.outgoing), "{proto}: {packets:?}");
    assert!(packets.iter().any(|p| p.proto == proto && !p.outgoing), "{proto}: {packets:?}");
    assert!(world.assert_unseen(token).is_err());
    Ok(())
}

#[test]
fn a_token_is_seen_in_any_protocol() {
    inside(|world| {
        let token = token::fresh();
        for (to, any) in
            [(SocketAddr::new(SINK4.into(), 31337), "0.0.0.0:0"), (SocketAddr::new(SINK6.into(), 31337), "[::]:0")]
        {
            UdpSocket::bind(any)?.send_to(token.as_bytes(), to)?;
            seen(world, &token, "udp")?;
        }

        let token = token::fresh();
        // IPPROTO_ICMP as a datagram socket, as ping uses it: an echo request, whose data is the token
        let ping = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp)?;
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(SINK4, 0));
        sendto(
            std::os::fd::AsRawFd::as_raw_fd(&ping),
            &[&[8, 0, 0, 0, 0, 0, 0, 1][..], token.as_bytes()].concat(),
            &to,
            MsgFlags::empty(),
        )?;
        seen(world, &token, "icmp")?;

        let token = token::fresh();
        std::io::Write::write_all(
            &mut connect((SINK4, 4444))?,
            data_encoding::BASE64.encode(token.as_bytes()).as_bytes(),
        )?;
        seen(world, &token, "tcp")?;

        let token = token::fresh();
        let multicast = SocketAddr::from(([224, 0, 0, 251], 5353));
        UdpSocket::bind("0.0.0.0:0")?.send_to(token.as_bytes(), multicast)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_broadcast(true)?;
        socket.send_to(token.as_bytes(), "255.255.255.255:9")?;
        assert_eq!(world.packets_containing(&token)?.len(), 4, "two, each seen at both ends");
        Ok(())
    });
}

#[test]
fn what_wasnt_sent_isnt_seen() {
    inside(|world| {
        world.assert_unseen(&token::fresh())?;
        // what is sent to the host itself never comes to the link
        let token = token::fresh();
        UdpSocket::bind("127.0.0.1:0")?.send_to(token.as_bytes(), "127.0.0.1:9")?;
        world.assert_unseen(&token)
    });
}

#[test]
fn lost_packets_are_an_error_not_silence() {
    inside(|world| {
        let token = token::fresh();
        world.assert_unseen(&token)?;
        std::fs::write(world.at.host_wire.with_extension("lost"), "3 packets, for the test")?;
        assert!(world.assert_unseen(&token).is_err());
        Ok(())
    });
}

#[test]
fn a_world_without_wire_witness_cant_say_that_nothing_was_seen() {
    inside_with(Setup { no_wire: true, ..Setup::default() }, |world| {
        assert!(world.assert_unseen(&token::fresh()).is_err());
        Ok(())
    });
}
