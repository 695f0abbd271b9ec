//! The world's DNS.

use std::collections::HashSet;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use rcc_world::map::{self, Answer, RESOLVER4, RESOLVER6, ROUTER4};
use rcc_world::{inside, token};

use crate::client::{addresses, ask, ask_stream, connect, exchange, question, tls};

#[test]
fn every_fixed_name_has_its_addresses() {
    inside(|_| {
        for entry in map::ZONE {
            let Answer::Fixed(expected) = entry.answer else { continue };
            let name = entry.name.replace('*', "any");
            let mut got = addresses(&ask(ROUTER4.into(), &name, RecordType::A)?);
            got.extend(addresses(&ask(ROUTER4.into(), &name, RecordType::AAAA)?));
            assert_eq!(got.iter().collect::<HashSet<_>>(), expected.iter().collect(), "{name}");
        }
        let missing = ask(ROUTER4.into(), "not-there.example", RecordType::A)?;
        assert_eq!(missing.response_code(), ResponseCode::NXDomain);
        Ok(())
    });
}

#[test]
fn any_address_is_a_resolver_over_every_transport() {
    inside(|world| {
        let expected = vec![addresses(&ask(ROUTER4.into(), "v4only.example", RecordType::A)?)[0]];
        for resolver in [RESOLVER4.into(), RESOLVER6.into()] {
            assert_eq!(addresses(&ask(resolver, "v4only.example", RecordType::A)?), expected);
            let tcp = ask_stream(connect((resolver, 53))?, "v4only.example", RecordType::A)?;
            assert_eq!(addresses(&tcp), expected);
            let dot = tls((resolver, 853), "resolver.example", &world.at.ca_pem)?;
            assert_eq!(addresses(&ask_stream(dot, "v4only.example", RecordType::A)?), expected);
        }
        let doh = tls((RESOLVER4, 443), "resolver.example", &world.at.ca_pem)?;
        let encoded = data_encoding::BASE64URL_NOPAD.encode(&question("v4only.example", RecordType::A));
        let request =
            format!("GET /dns-query?dns={encoded} HTTP/1.1\r\nHost: resolver.example\r\nConnection: close\r\n\r\n");
        assert!(exchange(doh, request.as_bytes())?.contains("application/dns-message"));
        Ok(())
    });
}

#[test]
fn rebinding_names_turn_private_each_by_itself() {
    inside(|_| {
        for name in ["a.rebind-lan.example", "b.rebind-lan.example"] {
            let first = ask(ROUTER4.into(), name, RecordType::A)?;
            assert_eq!((addresses(&first)[0].to_string().as_str(), first.answers()[0].ttl()), ("11.1.0.70", 0));
            for _again in 0..2 {
                let later = addresses(&ask(ROUTER4.into(), name, RecordType::A)?);
                assert_eq!(later[0].to_string(), "192.168.77.20");
            }
        }
        let spelled = ask(ROUTER4.into(), "10-9-8-7.spelled.example", RecordType::A)?;
        assert_eq!(addresses(&spelled)[0].to_string(), "10.9.8.7");
        let spelled = ask(ROUTER4.into(), "fd00--5.spelled.example", RecordType::AAAA)?;
        assert_eq!(addresses(&spelled)[0].to_string(), "fd00::5");
        Ok(())
    });
}

#[test]
fn chains_end_where_they_say() {
    inside(|world| {
        let alias = ask(ROUTER4.into(), "alias.example", RecordType::A)?;
        assert_eq!((alias.answers().len(), addresses(&alias)[0].to_string().as_str()), (3, "11.1.0.10"));
        let looping = ask(ROUTER4.into(), "alias-loop.example", RecordType::A)?;
        assert!(addresses(&looping).is_empty());
        let out = ask(ROUTER4.into(), "alias-out.example", RecordType::A)?;
        assert_eq!(addresses(&out)[0].to_string(), "11.1.9.9");
        let queries = world.hits()?.into_iter().filter(|h| h.server == "dns").count();
        assert_eq!(queries, 3, "a chain is answered whole: no query of its own for a link");
        Ok(())
    });
}

#[test]
fn sizes_and_failures_are_as_the_table_says() {
    inside(|_| {
        let many = ask(ROUTER4.into(), "many.example", RecordType::A)?;
        assert!(many.truncated() && many.answers().is_empty());
        for (name, count) in [("many.example", 200), ("flood.example", 4000)] {
            let all = addresses(&ask_stream(connect((ROUTER4, 53))?, name, RecordType::A)?);
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), count, "{name}");
        }
        assert!(ask(ROUTER4.into(), "tcponly.example", RecordType::A)?.truncated());
        assert_eq!(addresses(&ask_stream(connect((ROUTER4, 53))?, "tcponly.example", RecordType::A)?).len(), 1);
        assert_eq!(ask(ROUTER4.into(), "fails.example", RecordType::A)?.response_code(), ResponseCode::ServFail);
        assert!(ask(ROUTER4.into(), "silent.example", RecordType::A).is_err());
        assert!(ask(ROUTER4.into(), "late.example", RecordType::A).is_err(), "after 2 s, and the client waits 1");
        assert_eq!(ask(ROUTER4.into(), "ttl-max.example", RecordType::A)?.answers()[0].ttl(), 0x7fff_ffff);
        Ok(())
    });
}

#[test]
fn the_canary_sees_tokens_in_names_of_any_case_and_type() {
    inside(|world| {
        for kind in [RecordType::A, RecordType::TXT, RecordType::NULL, RecordType::HTTPS] {
            let token = token::fresh();
            ask(ROUTER4.into(), &format!("{}.x.canary.example", token.to_uppercase()), kind)?;
            let hits = world.hits_with(&token)?;
            assert_eq!((hits.len(), hits[0].method.as_deref()), (1, Some(kind.to_string().as_str())));
            assert!(!world.packets_containing(&token)?.is_empty());
        }
        Ok(())
    });
}
