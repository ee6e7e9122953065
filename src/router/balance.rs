//! Which worker gets a new session (pure).

use crate::config::router::Balance;

/// What is known of one worker's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How long it has left a handover unacknowledged, in steps that double; 0: not for long. Its event loop is blocked.
    pub stuck: u32,
    /// Handed over and not acknowledged: a blocked event loop does not acknowledge.
    pub pending: usize,
    /// Sessions, counted from the handover on.
    pub sessions: usize,
    /// When it was last chosen, as a counter.
    pub turn: u64,
}

/// The position of the chosen one in `loads`; `None` when there is none. `random` is any number.
pub fn choose(balance: Balance, loads: &[Load], random: u64) -> Option<usize> {
    let indexed = loads.iter().enumerate();
    let chosen = match balance {
        Balance::LeastLoaded => indexed.min_by_key(|(_, load)| (load.stuck, load.pending, load.sessions, load.turn)),
        // The longest not chosen: the same order for ever, also while workers come and go.
        Balance::RoundRobin => indexed.min_by_key(|(_, load)| load.turn),
        Balance::Random => {
            let count = u64::try_from(loads.len()).unwrap_or(u64::MAX);
            let position = random.checked_rem(count)?;
            return usize::try_from(position).ok();
        }
    };
    chosen.map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pending: usize, sessions: usize, turn: u64) -> Load {
        Load { stuck: 0, pending, sessions, turn }
    }

    #[test]
    fn nobody_to_choose() {
        for balance in [Balance::LeastLoaded, Balance::RoundRobin, Balance::Random] {
            assert_eq!(choose(balance, &[], 5), None);
        }
    }

    #[test]
    fn a_blocked_worker_gets_nothing_new() {
        let loads = [load(3, 0, 0), load(0, 100, 9), load(0, 99, 8)];
        assert_eq!(choose(Balance::LeastLoaded, &loads, 0), Some(2));
    }

    #[test]
    fn in_a_burst_the_stuck_one_is_the_last() {
        let loads = [Load { stuck: 1, ..load(1, 0, 0) }, load(9, 9, 9)];
        assert_eq!(choose(Balance::LeastLoaded, &loads, 0), Some(1));
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(choose(Balance::LeastLoaded, &[load(0, 1, 7), load(0, 1, 6)], 0), Some(1));
        assert_eq!(choose(Balance::RoundRobin, &[load(9, 9, 1), load(0, 0, 2)], 0), Some(0));
    }

    #[test]
    fn random_covers_all() {
        let loads = [load(0, 0, 0); 3];
        let chosen: Vec<_> = (0..3).map(|random| choose(Balance::Random, &loads, random)).collect();
        assert_eq!(chosen, [Some(0), Some(1), Some(2)]);
    }
}
