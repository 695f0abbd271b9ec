//! Packets of all conversations: what is understood is the same when it is said again.

use rcc_proto::{FromGateway, FromHook, FromSession, MAX_PACKET, ToGateway, ToHook, ToSession, decode, encode};
use serde::{Serialize, de::DeserializeOwned};

pub fn feed(bytes: &[u8]) {
    let (kind, packet) = crate::choice(bytes);
    match kind % 6 {
        0 => again::<ToGateway>(packet),
        1 => again::<FromGateway>(packet),
        2 => again::<ToSession>(packet),
        3 => again::<FromSession>(packet),
        4 => again::<ToHook>(packet),
        _ => again::<FromHook>(packet),
    }
}

fn again<T: Serialize + DeserializeOwned>(packet: &[u8]) {
    let Ok(message) = decode::<T>(packet) else { return };
    assert!(packet.len() <= MAX_PACKET);
    // What was short may be long when it is written with all its escapes.
    let Ok(said) = encode(&message) else { return };
    let heard: T = decode(&said).expect("what is said is understood");
    assert_eq!(*encode(&heard).expect("it was short enough"), *said);
}
