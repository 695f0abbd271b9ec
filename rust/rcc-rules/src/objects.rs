//! The table as objects of nft's JSON (libnftables-json(5)), in the form in which nft itself lists them
//! with `--numeric-protocol`.

use crate::TABLE;
use crate::rule::{Action, LOG_BURST, LOG_RATE, Match, Rule, family};
use crate::table::{OUTPUT, PRIORITY, Table};
use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{
    Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix,
};
use nftables::schema;
use nftables::schema::{FlushObject, NfCmd, NfListObject, Nftables};
use nftables::stmt::{self, AnonymousCounter, Counter, JumpTarget, Operator, Reject, RejectType, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use std::borrow::Cow;

impl Table {
    /// The table's objects: itself, its chains, their rules.
    #[must_use]
    pub fn objects(&self) -> Vec<NfListObject<'static>> {
        let mut all = vec![NfListObject::Table(table())];
        all.extend(self.chains.iter().map(|(name, _)| chain(name)));
        for (chain, rules) in &self.chains {
            all.extend(rules.iter().map(|r| rule(chain, r)));
        }
        all
    }

    /// One transaction that puts this table's rules in the place of those that are there. The chains stay, so that each
    /// packet meets either all of the old rules or all of the new ones: while one hook takes another's place the kernel
    /// can lead a packet through both when neither has rules (docs/decisions/0021).
    #[must_use]
    pub fn exchange(&self) -> Nftables<'static> {
        let mut batch = Batch::new();
        let (rules, others): (Vec<_>, Vec<_>) =
            self.objects().into_iter().partition(|o| matches!(o, NfListObject::Rule(_)));
        for object in others {
            batch.add(object);
        }
        batch.add_cmd(NfCmd::Flush(FlushObject::Table(table())));
        for object in rules {
            batch.add(object);
        }
        batch.to_nftables()
    }

    /// One transaction that puts this table in the place of any that has its name, whatever else is in that.
    #[must_use]
    pub fn replacement(&self) -> Nftables<'static> {
        let mut batch = Batch::new();
        // A table that is not there can't be deleted; one that is there can be added once more.
        batch.add(NfListObject::Table(table()));
        batch.delete(NfListObject::Table(table()));
        for object in self.objects() {
            batch.add(object);
        }
        batch.to_nftables()
    }

    /// One transaction that takes any table of that name away.
    #[must_use]
    pub fn removal() -> Nftables<'static> {
        let mut batch = Batch::new();
        batch.add(NfListObject::Table(table()));
        batch.delete(NfListObject::Table(table()));
        batch.to_nftables()
    }
}

fn table() -> schema::Table<'static> {
    schema::Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(name: &'static str) -> NfListObject<'static> {
    let mut chain =
        schema::Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..schema::Chain::default() };
    if name == OUTPUT {
        chain._type = Some(NfChainType::Filter);
        chain.hook = Some(NfHook::Output);
        chain.prio = Some(PRIORITY);
        chain.policy = Some(NfChainPolicy::Accept);
    }
    NfListObject::Chain(chain)
}

fn rule(chain: &'static str, rule: &Rule) -> NfListObject<'static> {
    let mut statements: Vec<Statement<'static>> = rule.matches.iter().map(condition).collect();
    statements.extend(action(&rule.action));
    NfListObject::Rule(schema::Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        comment: Some(rule.comment.clone().into()),
        ..schema::Rule::default()
    })
}

fn condition(condition: &Match) -> Statement<'static> {
    let (left, op, right) = match condition {
        Match::User(id) => (meta(MetaKey::Skuid), Operator::EQ, Expression::Number(*id)),
        Match::To(to) => (field(family(to), "daddr"), Operator::EQ, net(to)),
        Match::OutsideV6(outside) => (field("ip6", "daddr"), Operator::NEQ, net(&IpNet::V6(*outside))),
        Match::NotUnicast => {
            let fib = Fib { result: FibResult::Type, flags: [FibFlag::Daddr].into() };
            (Expression::Named(NamedExpression::Fib(fib)), Operator::NEQ, text("unicast"))
        }
        Match::Tcp(port) => (field("tcp", "dport"), Operator::EQ, Expression::Number((*port).into())),
        Match::Udp(port) => (field("udp", "dport"), Operator::EQ, Expression::Number((*port).into())),
        // By its number: a name needs /etc/protocols.
        Match::AnyTcp => (meta(MetaKey::L4proto), Operator::EQ, Expression::Number(6)),
    };
    Statement::Match(stmt::Match { left, right, op })
}

fn action(action: &Action) -> Vec<Statement<'static>> {
    let counter = || Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default())));
    let target = |chain: &'static str| JumpTarget { target: chain.into() };
    match action {
        Action::Accept => vec![counter(), Statement::Accept(None)],
        Action::Jump(chain) => vec![counter(), Statement::Jump(target(chain))],
        Action::Goto(chain) => vec![counter(), Statement::Goto(target(chain))],
        Action::Log(prefix) => {
            let limit = stmt::Limit {
                rate: LOG_RATE,
                rate_unit: None,
                per: Some("minute".into()),
                burst: Some(LOG_BURST),
                burst_unit: None,
                inv: None,
            };
            let log = stmt::Log { prefix: Some((*prefix).into()), ..stmt::Log::new(None) };
            vec![Statement::Limit(limit), Statement::Log(Some(log))]
        }
        Action::Reset => vec![Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)))],
        Action::Prohibit => {
            let reject = Reject::new(Some(RejectType::ICMPX), Some(RejectCode::AdminProhibited));
            vec![counter(), Statement::Reject(Some(reject))]
        }
    }
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

/// A single address without a length, as nft lists it.
fn net(net: &IpNet) -> Expression<'static> {
    if net.prefix_len() == net.max_prefix_len() {
        return text(net.addr().to_string());
    }
    let prefix = Prefix { addr: Box::new(text(net.trunc().addr().to_string())), len: net.prefix_len().into() };
    Expression::Named(NamedExpression::Prefix(prefix))
}
