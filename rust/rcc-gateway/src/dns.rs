//! Pure: answers the agent's DNS queries. An allowed name gets an address that stands for it in this session; every
//! other name is NXDOMAIN. No query leads to another, so nothing that an agent puts into a name leaves the machine.

use crate::stand_in::StandIns;
use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use rcc_policy::HostName;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How long a stand-in may be remembered, in seconds. It stays valid for the whole session.
pub const TTL: u32 = 60;
/// The longest answer over UDP: no answer of ours comes near it, and a client need not ask for more by EDNS.
pub const MAX_UDP: usize = 512;

/// What the session thinks of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It exists.
    Yes,
    /// It doesn't.
    No,
}

/// What came of a query, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The name is allowed; `address` if one was asked for.
    Allowed {
        /// The name.
        name: HostName,
    },
    /// The name does not exist here.
    Denied {
        /// The name as asked, in DNS presentation format, so without control characters.
        name: String,
    },
    /// The session has as many names as it may.
    Full {
        /// The name.
        name: HostName,
    },
    /// Nothing worth a line: a malformed query, or localhost.
    Quiet,
}

/// Answers one query; `None` if it deserves no answer.
pub fn answer(
    packet: &[u8],
    known: &dyn Fn(&HostName) -> Known,
    stand_ins: &mut StandIns,
    room: usize,
) -> (Option<Vec<u8>>, Outcome) {
    let quiet = |m: Option<Vec<u8>>| (m, Outcome::Quiet);
    let Ok(query) = Message::from_vec(packet) else { return quiet(form_error(packet)) };
    if query.message_type() != MessageType::Query {
        return quiet(None);
    }
    let mut reply = Message::new();
    reply.set_id(query.id());
    reply.set_message_type(MessageType::Response);
    reply.set_op_code(query.op_code());
    reply.set_recursion_desired(query.recursion_desired());
    reply.set_recursion_available(true);
    if query.op_code() != OpCode::Query {
        reply.set_response_code(ResponseCode::NotImp);
        return quiet(encode(&reply, room));
    }
    let [question] = query.queries() else {
        reply.set_response_code(ResponseCode::FormErr);
        return quiet(encode(&reply, room));
    };
    reply.add_query(question.clone());
    let outcome = fill(&mut reply, question, known, stand_ins);
    (encode(&reply, room), outcome)
}

fn fill(
    reply: &mut Message,
    question: &Query,
    known: &dyn Fn(&HostName) -> Known,
    stand_ins: &mut StandIns,
) -> Outcome {
    let kind = question.query_type();
    let mut put = |data: RData| {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    };
    if question.query_class() != DNSClass::IN {
        reply.set_response_code(ResponseCode::Refused);
        return Outcome::Quiet;
    }
    let text = question.name().to_ascii();
    let text = text.strip_suffix('.').unwrap_or(&text);
    if text.eq_ignore_ascii_case("localhost") || text.to_ascii_lowercase().ends_with(".localhost") {
        // RFC 6761, section 6.3: the session's own loopback.
        match kind {
            RecordType::A => put(RData::A(A(Ipv4Addr::LOCALHOST))),
            RecordType::AAAA => put(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
            _ => {}
        }
        return Outcome::Quiet;
    }
    let name = HostName::parse(text).ok().filter(|n| known(n) == Known::Yes);
    let Some(name) = name else {
        reply.set_response_code(ResponseCode::NXDomain);
        return Outcome::Denied { name: text.to_owned() };
    };
    if kind == RecordType::A {
        let Some(address) = stand_ins.address(&name) else {
            reply.set_response_code(ResponseCode::ServFail);
            return Outcome::Full { name };
        };
        put(RData::A(A(address)));
    }
    Outcome::Allowed { name }
}

fn encode(reply: &Message, room: usize) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    let mut short = Message::new();
    short.set_header(*reply.header());
    short.set_truncated(true);
    short.add_queries(reply.queries().iter().cloned());
    short.to_vec().ok().filter(|b| b.len() <= room)
}

/// A FORMERR with the query's number, if it had one and was a query.
fn form_error(packet: &[u8]) -> Option<Vec<u8>> {
    let &[a, b, flags, ..] = packet.get(..12)? else { return None };
    if flags & 0x80 != 0 {
        return None;
    }
    let mut header = Header::new();
    header.set_id(u16::from_be_bytes([a, b]));
    header.set_message_type(MessageType::Response);
    header.set_response_code(ResponseCode::FormErr);
    let mut reply = Message::new();
    reply.set_header(header);
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Edns;
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    fn query(name: &str, kind: RecordType) -> Message {
        let mut m = Message::new();
        m.set_id(7);
        m.set_recursion_desired(true);
        m.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        m
    }

    fn known(n: &HostName) -> Known {
        if n.as_str().ends_with("allowed.example") { Known::Yes } else { Known::No }
    }

    fn ask(m: &Message, s: &mut StandIns) -> (Message, Outcome) {
        let (bytes, outcome) = answer(&m.to_vec().unwrap(), &known, s, MAX_UDP);
        (Message::from_vec(&bytes.unwrap()).unwrap(), outcome)
    }

    #[test]
    fn an_allowed_name_gets_one_stand_in_and_others_do_not_exist() {
        let mut s = StandIns::new(2);
        let (a, o) = ask(&query("Allowed.Example.", RecordType::A), &mut s);
        assert_eq!(a.response_code(), ResponseCode::NoError);
        assert_eq!(a.answers()[0].data(), &RData::A(A::new(198, 18, 1, 0)));
        assert_eq!(a.answers()[0].ttl(), TTL);
        assert!(matches!(o, Outcome::Allowed { .. }));
        assert_eq!(
            ask(&query("allowed.example.", RecordType::A), &mut s).0.answers()[0].data(),
            &RData::A(A::new(198, 18, 1, 0))
        );
        for kind in
            [RecordType::AAAA, RecordType::HTTPS, RecordType::TXT, RecordType::ANY, RecordType::CNAME, RecordType::NULL]
        {
            let (a, _) = ask(&query("allowed.example.", kind), &mut s);
            assert_eq!((a.response_code(), a.answers().len()), (ResponseCode::NoError, 0), "{kind}");
        }
        let (a, o) = ask(&query("secret.attacker.example.", RecordType::A), &mut s);
        assert_eq!(a.response_code(), ResponseCode::NXDomain);
        assert_eq!(o, Outcome::Denied { name: "secret.attacker.example".into() });
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut s = StandIns::new(2);
        for n in ["a.allowed.example.", "b.allowed.example."] {
            assert_eq!(ask(&query(n, RecordType::A), &mut s).0.response_code(), ResponseCode::NoError);
        }
        let (a, o) = ask(&query("c.allowed.example.", RecordType::A), &mut s);
        assert_eq!(a.response_code(), ResponseCode::ServFail);
        assert!(matches!(o, Outcome::Full { .. }));
    }

    #[test]
    fn options_and_odd_queries_carry_nothing() {
        let mut s = StandIns::new(9);
        let mut m = query("allowed.example.", RecordType::A);
        m.set_edns(Edns::new());
        assert!(ask(&m, &mut s).0.extensions().is_none());
        assert_eq!(
            ask(&query("a.localhost.", RecordType::A), &mut s).0.answers()[0].data(),
            &RData::A(A(Ipv4Addr::LOCALHOST))
        );
        let mut two = query("allowed.example.", RecordType::A);
        two.add_query(Query::query(Name::from_ascii("x.").unwrap(), RecordType::A));
        assert_eq!(ask(&two, &mut s).0.response_code(), ResponseCode::FormErr);
        let mut update = query("allowed.example.", RecordType::A);
        update.set_op_code(OpCode::Update);
        assert!(ask(&update, &mut s).0.answers().is_empty());
        let mut answer_ = query("allowed.example.", RecordType::A);
        answer_.set_message_type(MessageType::Response);
        assert_eq!(answer(&answer_.to_vec().unwrap(), &known, &mut s, MAX_UDP).0, None);
        let mut class = query("allowed.example.", RecordType::A);
        class.queries_mut()[0].set_query_class(DNSClass::CH);
        assert_eq!(ask(&class, &mut s).0.response_code(), ResponseCode::Refused);
        assert_eq!(answer(&[0, 1, 0, 0, 0, 9], &known, &mut s, MAX_UDP).0, None);
        assert!(answer(&[0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], &known, &mut s, MAX_UDP).0.is_some());
    }

    proptest! {
        #[test]
        fn never_panics_and_is_never_long(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..40, to in any::<u8>()) {
            let mut s = StandIns::new(9);
            let _ = answer(&bytes, &known, &mut s, MAX_UDP);
            let mut m = query("allowed.example.", RecordType::A).to_vec().unwrap();
            let at = at % m.len();
            m[at] = to;
            if let (Some(a), _) = answer(&m, &known, &mut s, MAX_UDP) { prop_assert!(a.len() <= MAX_UDP) }
        }
    }
}
