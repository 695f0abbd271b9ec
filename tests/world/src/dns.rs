//! The world's DNS: authoritative for every name of [`crate::map::ZONE`], on every address, by UDP, TCP, TLS and HTTPS.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::map::{self, Answer};
use crate::outside::Outside;
use crate::witness::{Event, Hit};

/// Answers questions; remembers how often each rebinding name was asked for.
#[derive(Default)]
pub struct Dns {
    asked: Mutex<HashMap<(String, RecordType), u32>>,
    /// Where all other names are, if they are anywhere.
    pub(crate) outside: Option<Outside>,
}

/// How a question came.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// `udp`, `tcp`, `tls` or `https`.
    pub proto: &'a str,
    /// The address it was sent to.
    pub local: &'a str,
    /// Where it came from.
    pub peer: &'a str,
}

/// What to do with a question.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// Send this, after so long.
    Send(Vec<u8>, Duration),
    /// Say nothing.
    Nothing,
}

impl Dns {
    /// With names that the zone does not have.
    pub(crate) fn with(outside: Option<Outside>) -> Self {
        Self { outside, ..Self::default() }
    }

    /// Answers one message.
    ///
    /// # Panics
    /// When the zone table has a name that isn't one.
    #[must_use]
    pub fn answer(&self, question: &[u8], via: Via<'_>) -> Reply {
        let hit = Hit::new("dns", via.proto, Event::Query, via.local, via.peer).carrying(question);
        let Ok(asked) = Message::from_vec(question) else {
            hit.record();
            return Reply::Nothing;
        };
        let mut reply = Message::new();
        reply
            .set_id(asked.id())
            .set_message_type(MessageType::Response)
            .set_op_code(OpCode::Query)
            .set_recursion_desired(asked.recursion_desired())
            .set_recursion_available(true)
            .add_queries(asked.queries().iter().cloned());
        let Some(query) = asked.queries().first() else {
            hit.record();
            return Reply::Nothing;
        };
        let kind = query.query_type();
        let name = query.name().to_string().trim_end_matches('.').to_ascii_lowercase();
        let mut hit = hit.also_in(name.as_bytes());
        hit.name = Some(name.clone());
        hit.method = Some(kind.to_string());
        // the octets themselves: EDNS options, casing and padding can be looked for
        hit.data = data_encoding::HEXLOWER.encode(question);
        hit.record();

        let mut delay = Duration::ZERO;
        let mut current = name;
        for _link in 0..8 {
            let Some(entry) = map::find(&current) else {
                let outside = self.outside.as_ref().and_then(|outside| outside.address(&current));
                if let (Some(IpAddr::V4(address)), Ok(owner)) = (outside, Name::from_str(&format!("{current}."))) {
                    if kind == RecordType::A {
                        reply.add_answer(Record::from_rdata(owner, 60, RData::A(A(address))));
                    }
                    break;
                }
                reply.set_response_code(ResponseCode::NXDomain);
                break;
            };
            let Ok(owner) = Name::from_str(&format!("{current}.")) else { break };
            match self.find(entry.answer, &current, kind, &mut delay) {
                Found::Alias(next) => {
                    let target = Name::from_str(&format!("{next}.")).expect("the zone's own names are names");
                    reply.add_answer(Record::from_rdata(owner, entry.ttl, RData::CNAME(CNAME(target))));
                    next.clone_into(&mut current);
                    continue;
                }
                Found::Addresses(_) if via.proto == "udp" && matches!(entry.answer, Answer::TcpOnly(_)) => {
                    reply.set_truncated(true);
                }
                Found::Addresses(mut list) => {
                    let asked = via.local.parse::<SocketAddr>().ok().and_then(|a| map::translates(a.ip()));
                    if let Some(prefix) = asked
                        && !list.iter().any(IpAddr::is_ipv6)
                    {
                        let v4 = |ip: &IpAddr| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None };
                        let more: Vec<_> = list.iter().filter_map(v4).collect();
                        list.extend(more.into_iter().map(|ip| IpAddr::V6(map::translated(prefix, ip))));
                    }
                    for address in list {
                        let data = match (address, kind) {
                            (IpAddr::V4(a), RecordType::A | RecordType::ANY) => RData::A(A(a)),
                            (IpAddr::V6(a), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(a)),
                            _ => continue,
                        };
                        reply.add_answer(Record::from_rdata(owner.clone(), entry.ttl, data));
                    }
                    if kind == RecordType::TXT {
                        let text = TXT::new(vec![format!("txt of {current}")]);
                        reply.add_answer(Record::from_rdata(owner, entry.ttl, RData::TXT(text)));
                    }
                }
                Found::Failure => {
                    reply.set_response_code(ResponseCode::ServFail);
                }
                Found::Silence => return Reply::Nothing,
            }
            break;
        }
        let mut bytes = reply.to_vec().unwrap_or_default();
        if via.proto == "udp" && bytes.len() > usize::from(asked.max_payload()) {
            reply.take_answers();
            reply.set_truncated(true);
            bytes = reply.to_vec().unwrap_or_default();
        }
        Reply::Send(bytes, delay)
    }

    fn find(&self, answer: Answer, name: &str, kind: RecordType, delay: &mut Duration) -> Found {
        Found::Addresses(match answer {
            Answer::Fixed(list) | Answer::TcpOnly(list) => list.to_vec(),
            Answer::Late(millis, list) => {
                *delay = Duration::from_millis(millis);
                list.to_vec()
            }
            Answer::Rebind(first, later) => {
                let mut asked = self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let count = asked.entry((name.to_owned(), kind)).or_default();
                *count += 1;
                if *count == 1 { first } else { later }.to_vec()
            }
            Answer::Many(n) => {
                (0..n).map(|i| Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 4, 0, 1)) + u32::from(i)).into()).collect()
            }
            Answer::Spelled => {
                let label = name.split('.').next().unwrap_or_default();
                let v4 = label.replace('-', ".").parse::<IpAddr>();
                v4.or_else(|_| label.replace('-', ":").parse()).into_iter().collect()
            }
            Answer::Cname(next) => return Found::Alias(next),
            Answer::Failure => return Found::Failure,
            Answer::Silence => return Found::Silence,
        })
    }

    /// Answers questions framed as on TCP, until the other side ends.
    pub fn serve_stream(&self, mut stream: impl Read + Write, via: Via<'_>) -> std::io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            if let Reply::Send(bytes, delay) = self.answer(&question, via) {
                std::thread::sleep(delay);
                // what doesn't fit into a message is cut by the encoder, so the length fits too
                let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())?;
            }
        }
    }
}

enum Found {
    Addresses(Vec<IpAddr>),
    Alias(&'static str),
    Failure,
    Silence,
}
