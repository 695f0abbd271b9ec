//! A stub resolver's two messages: the question, and what of a packet is its answer. Nothing is sent here.

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData};
use rcc_policy::HostName;
use std::io;
use std::net::IpAddr;

pub use hickory_proto::rr::RecordType;

/// One question for a name's addresses, with a random number.
#[derive(Debug)]
pub struct Question {
    id: u16,
    query: Query,
    bytes: Vec<u8>,
}

/// What a resolver said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name's addresses of that kind, with their least TTL in seconds; none, if it has none of that kind.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    NoName,
    /// The answer did not fit: ask by TCP.
    Truncated,
}

impl Question {
    /// For the addresses of `kind` (A or AAAA).
    pub fn new(name: &HostName, kind: RecordType) -> io::Result<Self> {
        let mut number = [0; 2];
        getrandom::fill(&mut number).map_err(io::Error::other)?;
        let id = u16::from_be_bytes(number);
        let query = Query::query(Name::from_ascii(format!("{name}.")).map_err(io::Error::other)?, kind);
        let mut message = Message::new();
        message.set_id(id);
        message.set_recursion_desired(true);
        message.add_query(query.clone());
        Ok(Self { id, query, bytes: message.to_vec().map_err(io::Error::other)? })
    }

    /// As it is sent by UDP.
    #[must_use]
    pub fn datagram(&self) -> &[u8] {
        &self.bytes
    }

    /// As it is sent by TCP or TLS: with its length first.
    pub fn framed(&self) -> io::Result<Vec<u8>> {
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        Ok([&length.to_be_bytes()[..], &self.bytes].concat())
    }

    /// The answer in a packet; `None` if it is not one to this very question.
    #[must_use]
    pub fn answer(&self, packet: &[u8]) -> Option<io::Result<Answer>> {
        let answer = Message::from_vec(packet).ok()?;
        let same = |q: &Query| q.query_type() == self.query.query_type() && same_name(q.name(), self.query.name());
        let is_answer = answer.id() == self.id
            && answer.message_type() == MessageType::Response
            && matches!(answer.queries(), [q] if same(q));
        is_answer.then(|| self.read(&answer))
    }

    /// The chain of aliases is the resolver's affair: it is asked for nothing more.
    fn read(&self, answer: &Message) -> io::Result<Answer> {
        match answer.response_code() {
            _ if answer.truncated() => return Ok(Answer::Truncated),
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Answer::NoName),
            code => return Err(io::Error::other(code.to_string())),
        }
        let (mut found, mut ttl) = (Vec::new(), u32::MAX);
        for record in answer.answers() {
            let ip = match (record.data(), self.query.query_type()) {
                (RData::A(a), RecordType::A) => IpAddr::V4(a.0),
                (RData::AAAA(a), RecordType::AAAA) => IpAddr::V6(a.0),
                _ => continue,
            };
            ttl = ttl.min(record.ttl());
            found.push(ip);
        }
        Ok(Answer::Addresses(found, ttl))
    }
}

fn same_name(a: &Name, b: &Name) -> bool {
    a.iter().count() == b.iter().count() && a.iter().zip(b.iter()).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_the_very_question_counts() {
        let name = HostName::parse("a.example").unwrap();
        let question = Question::new(&name, RecordType::A).unwrap();
        assert!(question.answer(question.datagram()).is_none(), "the question itself");
        let mut message = Message::from_vec(question.datagram()).unwrap();
        message.set_message_type(MessageType::Response);
        let answer = question.answer(&message.to_vec().unwrap()).unwrap().unwrap();
        assert_eq!(answer, Answer::Addresses(vec![], u32::MAX));
        message.set_id(question.id.wrapping_add(1));
        assert!(question.answer(&message.to_vec().unwrap()).is_none(), "another number");
        let other = Question::new(&HostName::parse("b.example").unwrap(), RecordType::A).unwrap();
        message.set_id(other.id);
        assert!(other.answer(&message.to_vec().unwrap()).is_none(), "another name");
    }
}
