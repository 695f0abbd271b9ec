//! The key that `rcc login` keeps: one file of the person's, outside of every project ([`crate::personal`]).
//!
//! Its first line is the key. A line `# entered YYYY-MM-DD` says when that was, in UTC; a file without one, written by
//! hand, is as good.

use super::{Credential, CredentialKind, LONGEST, credential, named};
use crate::personal::{Personal, Privacy};
use rcc_report::{Code, Problem};
use std::ops::RangeInclusive;
use std::path::Path;
use time::{Date, Duration, Month, OffsetDateTime};
use zeroize::Zeroizing;

/// The file's name in [`crate::personal::FOLDER`].
pub const NAME: &str = "anthropic-key";
/// How long a subscription's token lasts (`claude setup-token`: "valid for one year"). API keys last until revoked.
const TOKEN_LASTS: Duration = Duration::days(365);
/// How long before its end the person is told.
const WARNED_BEFORE: Duration = Duration::days(14);
/// Lengths of keys and tokens, with room on both sides: what is shorter was cut off, what is longer is something else.
const LENGTHS: RangeInclusive<usize> = 40..=2048;

/// A key that was entered.
#[derive(Debug)]
pub struct Stored {
    /// For the gateway.
    pub credential: Credential,
    /// When, if that is known.
    pub entered: Option<Date>,
}

/// Today, in UTC.
#[must_use]
pub fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

/// What `rcc login` kept, if anything.
pub fn read(home: &Path) -> Result<Option<Stored>, Problem> {
    let Some(personal) = Personal::open(home, Code::KEY_UNREADABLE)? else { return Ok(None) };
    let Some(bytes) = personal.read(NAME, LONGEST, Privacy::Secret)? else { return Ok(None) };
    let place = personal.place(NAME).display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|_| super::malformed(&place))?;
    parse(&place, text).map(Some)
}

fn parse(place: &str, text: &str) -> Result<Stored, Problem> {
    let (notes, key): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    let key = Zeroizing::new(key.join("\n"));
    let credential = credential(place, &key, None)?;
    Ok(Stored { credential, entered: notes.iter().find_map(|note| date(note.strip_prefix("# entered ")?)) })
}

fn date(text: &str) -> Option<Date> {
    let mut parts = text.trim().splitn(3, '-');
    let mut next = || parts.next();
    let (year, month, day) = (next()?.parse().ok()?, next()?.parse::<u8>().ok()?, next()?.parse().ok()?);
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

/// Checks the form of what was entered. Where it came from is all that a problem says of it.
pub fn check(from: &str, text: &str) -> Result<Credential, Problem> {
    let credential = credential(from, text, None)?;
    let key = credential.secret.expose();
    let wrong = |what: &str| {
        let remedy = "an API key (sk-ant-api…) is made at https://platform.claude.com/settings/keys,\na subscription's token (sk-ant-oat…) by: claude setup-token";
        Err(Problem::new(Code::KEY_MALFORMED, from, what, remedy))
    };
    if key.starts_with("sk-ant-admin") {
        return wrong("this is an administrator's key: it can't ask the model, but change the whole organisation");
    }
    if !key.starts_with("sk-ant-api") && !key.starts_with("sk-ant-oat") {
        return wrong("neither an API key nor a subscription's token begins like this");
    }
    if !LENGTHS.contains(&key.len()) {
        return wrong("no key is that short or that long: a part of it is missing, or there is more than the key");
    }
    Ok(credential)
}

/// Keeps a key in place of the one before.
pub fn keep(home: &Path, credential: Credential) -> Result<Stored, Problem> {
    let stored = Stored { credential, entered: Some(today()) };
    let key = stored.credential.secret.expose();
    // With room for all of it: a buffer that grows would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(key.len() + 64));
    for part in [key, "\n# entered ", &today().to_string(), "\n"] {
        text.push_str(part);
    }
    Personal::create(home, Code::KEY_UNREADABLE)?.replace(NAME, text.as_bytes())?;
    Ok(stored)
}

/// Takes the key away. Whether there was one.
pub fn forget(home: &Path) -> Result<bool, Problem> {
    Personal::open(home, Code::KEY_UNREADABLE)?.map_or(Ok(false), |personal| personal.remove(NAME))
}

impl Stored {
    /// When it is expected to end.
    #[must_use]
    pub fn ends(&self) -> Option<Date> {
        match self.credential.kind {
            CredentialKind::ApiKey => None,
            CredentialKind::OauthToken => self.entered.and_then(|day| day.checked_add(TOKEN_LASTS)),
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = named(self.credential.kind);
        let entered = self.entered.map_or_else(|| "written by hand".to_owned(), |day| format!("entered {day}"));
        let ends = self.ends().map(|day| format!(", expected to last until {day}")).unwrap_or_default();
        format!("{kind}, {entered}{ends}")
    }

    /// What the person should know on this day.
    #[must_use]
    pub fn notice(&self, today: Date) -> Option<String> {
        let ends = self.ends()?;
        let left = ends - today;
        let how = "claude setup-token, then rcc login";
        if left > WARNED_BEFORE {
            None
        } else if left >= Duration::ZERO {
            Some(format!("the subscription's token ends on {ends}, in {} days: {how}", left.whole_days()))
        } else {
            Some(format!("the subscription's token was to last until {ends}; if it is refused: {how}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sk-ant-oat01-0123456789012345678901234567890123456789";

    fn day(text: &str) -> Date {
        date(text).unwrap()
    }

    #[test]
    fn a_token_is_spoken_of_two_weeks_before_its_end() {
        let stored = parse("x", &format!("{TOKEN}\n# entered 2026-11-24\n")).unwrap();
        assert_eq!(stored.ends(), Some(day("2027-11-24")));
        assert_eq!(stored.notice(day("2027-11-09")), None);
        assert!(stored.notice(day("2027-11-10")).unwrap().contains("in 14 days"));
        assert!(stored.notice(day("2027-11-24")).unwrap().contains("in 0 days"));
        assert!(stored.notice(day("2027-11-25")).unwrap().contains("was to last until 2027-11-24"));
        let by_hand = parse("x", TOKEN).unwrap();
        assert_eq!((by_hand.ends(), by_hand.notice(day("2036-01-01"))), (None, None));
        let key = parse("x", &format!("{}\n# entered 2020-01-01", TOKEN.replace("oat", "api"))).unwrap();
        assert_eq!(key.notice(day("2036-01-01")), None);
    }

    #[test]
    fn a_key_is_kept_whole_and_described_without_any_part_of_it() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(home.path()).unwrap().is_none());
        keep(home.path(), check("x", &format!(" {TOKEN}\n")).unwrap()).unwrap();
        let stored = read(home.path()).unwrap().unwrap();
        assert_eq!((stored.credential.secret.expose(), stored.entered), (TOKEN, Some(today())));
        assert!(!format!("{} {stored:?}", stored.describe()).contains("sk-ant"));
        assert_eq!((forget(home.path()), forget(home.path())), (Ok(true), Ok(false)));
    }

    #[test]
    fn what_is_no_key_is_not_kept_and_not_repeated() {
        let admin = TOKEN.replace("oat01", "admin01");
        for text in [
            "",
            "two words",
            "password",
            "sk-ant-oat01-short",
            "sk-ant-ort01-0123456789012345678901234567",
            &admin,
            "\u{1b}[200~",
        ] {
            let problem = check("the terminal", text).unwrap_err();
            assert_eq!(problem.code, Code::KEY_MALFORMED, "{text}");
            let said = problem.what;
            assert!(text.is_empty() || !said.contains(text), "{said}");
        }
    }

    #[test]
    fn dates_that_are_none_are_none() {
        for text in ["", "2026", "2026-13-01", "2026-02-30", "x-y-z", "2026-1-1-1"] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
