//! Pure: a token bucket. The clock is the caller's.

use std::time::Duration;

/// Lets through `burst` at once and then `a_second`.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    burst: f64,
    a_second: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u32, a_second: u32) -> Self {
        Self { burst: burst.into(), a_second: a_second.into(), tokens: burst.into(), at: Duration::ZERO }
    }

    /// Whether one more may pass at `now`, measured from any fixed point.
    pub fn take(&mut self, now: Duration) -> bool {
        let may = self.may(now);
        if may {
            self.charge(1);
        }
        may
    }

    /// Whether something may pass at `now`, whose cost shows later.
    pub fn may(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.a_second).min(self.burst);
        self.tokens >= 1.0
    }

    /// Takes the cost of what has passed; what is missing is owed.
    pub fn charge(&mut self, cost: u32) {
        self.tokens -= f64::from(cost);
    }

    /// Whether it has been left alone for long enough to be full again.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        self.tokens + now.saturating_sub(self.at).as_secs_f64() * self.a_second >= self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut b = Bucket::new(3, 2);
        let s = Duration::from_secs;
        assert_eq!((0..5).filter(|_| b.take(s(9))).count(), 3);
        assert_eq!((0..5).filter(|_| b.take(s(10))).count(), 2);
        assert!(!b.take(s(5)), "a clock that goes back gives nothing");
        assert!(b.is_full(s(100)));
        assert!(b.may(s(100)));
        b.charge(10);
        assert!(!b.may(s(103)), "7 are owed, 6 came");
        assert!(b.may(s(104)));
    }
}
