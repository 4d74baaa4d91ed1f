//! How many sessions may be asked for in a time: a bucket of tokens, and a chance to be turned away early when the
//! bucket stays empty (client spec, section 12; the idea of the early drop is the BLUE queue discipline).

use oxkeeper_types::SessionId;

use crate::clock::millis;
use crate::config::ConnectionThrottleConfig;

/// The state of the throttle. Time and chance are arguments.
#[derive(Debug)]
pub(crate) struct ConnectionThrottle {
    config: ConnectionThrottleConfig,
    tokens: u64,
    filled_ms: u64,
    drop_probability: f64,
    adjusted_ms: u64,
}

impl ConnectionThrottle {
    pub(crate) fn new(config: ConnectionThrottleConfig, now_ms: u64) -> ConnectionThrottle {
        let tokens = u64::from(config.tokens_max);
        ConnectionThrottle {
            config,
            tokens,
            filled_ms: now_ms,
            drop_probability: 0.0,
            adjusted_ms: now_ms,
        }
    }

    /// Whether a client that asks for `session` may come in. `chance` is uniform in 0..1.
    pub(crate) fn admits(&mut self, session: SessionId, now_ms: u64, chance: f64) -> bool {
        let need = match session {
            SessionId::NONE => self.config.global_session_weight,
            _ => self.config.renew_session_weight,
        };
        let fill_ms = millis(self.config.fill_time).max(1);
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        if elapsed_ms > fill_ms {
            let refill = elapsed_ms / fill_ms * u64::from(self.config.fill_count);
            self.tokens = (self.tokens + refill).min(u64::from(self.config.tokens_max));
            self.filled_ms = now_ms;
        }
        if let Some(freeze) = self.config.freeze_time {
            self.adjust(now_ms, millis(freeze));
            if chance < self.drop_probability {
                return false;
            }
        }
        match self.tokens.checked_sub(u64::from(need)) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    fn adjust(&mut self, now_ms: u64, freeze_ms: u64) {
        if now_ms.saturating_sub(self.adjusted_ms) <= freeze_ms {
            return;
        }
        let max = u64::from(self.config.tokens_max);
        let missing = max - self.tokens;
        #[allow(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
        let missing_share = missing as f64 / max.max(1) as f64;
        if missing == max {
            self.drop_probability = (self.drop_probability + self.config.drop_increase).min(1.0);
        } else if missing_share <= self.config.decrease_ratio {
            self.drop_probability = (self.drop_probability - self.config.drop_decrease).max(0.0);
        }
        self.adjusted_ms = now_ms;
    }

    /// The chance at which the next client is turned away early.
    pub(crate) fn drop_probability(&self) -> f64 {
        self.drop_probability
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn throttle(tokens_max: u32, freeze_time: Option<Duration>) -> ConnectionThrottle {
        let config = ConnectionThrottleConfig {
            tokens_max,
            fill_time: Duration::from_millis(10),
            fill_count: 1,
            freeze_time,
            drop_increase: 0.5,
            drop_decrease: 0.5,
            decrease_ratio: 0.0,
            global_session_weight: 1,
            renew_session_weight: 1,
            local_session_weight: 1,
        };
        ConnectionThrottle::new(config, 0)
    }

    #[test]
    fn tokens_run_out_and_come_back_with_time() {
        let mut throttle = throttle(2, None);
        let admitted: Vec<bool> = (0..3).map(|_| throttle.admits(SessionId::NONE, 0, 0.0)).collect();
        assert_eq!(admitted, [true, true, false]);
        assert!(throttle.admits(SessionId(5), 11, 0.0));
        assert!(!throttle.admits(SessionId(5), 11, 0.0));
    }

    #[test]
    fn an_empty_bucket_raises_the_chance_of_an_early_refusal() {
        let mut throttle = throttle(1, Some(Duration::ZERO));
        assert!(throttle.admits(SessionId::NONE, 0, 0.9));
        assert!(!throttle.admits(SessionId::NONE, 1, 0.9));
        assert_eq!(throttle.drop_probability(), 0.5);
        assert!(!throttle.admits(SessionId::NONE, 2, 0.9));
        assert_eq!(throttle.drop_probability(), 1.0);
    }
}
