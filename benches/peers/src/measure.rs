//! Blocks in turn, and medians of what is compared within one round.

use std::{fmt, time::Duration};

use rescind::clock::{Clock, SystemClock};

use crate::contenders::Contender;

/// Tokens that a contender verifies at a stretch.
const BLOCK: usize = 8;

/// Nanoseconds per token: one column per contender, one row per round.
pub struct Comparison {
    names: Vec<String>,
    rounds: Vec<Vec<f64>>,
}

/// A median and the range that it comes from.
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Comparison {
    /// Lets every contender verify the same few tokens in each round: short blocks, so that an interruption spoils one
    /// ratio and not all. The order turns by one each round, so that nobody always comes after the same other.
    pub fn run(contenders: &[(&str, Contender)], tokens: usize, rounds: usize) -> Self {
        let clock = SystemClock::default();
        let warm_up = rounds / 10;
        let mut measured = Vec::with_capacity(rounds);
        for round in 0..rounds + warm_up {
            let mut row = vec![0.0; contenders.len()];
            for turn in 0..contenders.len() {
                let who = (round + turn) % contenders.len();
                let block = (0..BLOCK).map(|n| (round * BLOCK + n) % tokens);
                row[who] = time(&clock, &contenders[who].1, block).as_nanos() as f64 / BLOCK as f64;
            }
            if round >= warm_up {
                measured.push(row);
            }
        }
        Self { names: contenders.iter().map(|(name, _)| (*name).into()).collect(), rounds: measured }
    }

    /// Nanoseconds per token of one contender.
    pub fn nanoseconds(&self, who: usize) -> Spread {
        Spread::of(self.rounds.iter().map(|row| row[who]).collect())
    }

    /// How much longer `who` takes than `than`, compared within each round.
    pub fn ratio(&self, who: usize, than: usize) -> Spread {
        Spread::of(self.rounds.iter().map(|row| row[who] / row[than]).collect())
    }
}

fn time(clock: &SystemClock, contender: &Contender, tokens: impl Iterator<Item = usize>) -> Duration {
    let start = clock.monotonic();
    for token in tokens {
        contender(token);
    }
    clock.monotonic() - start
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:14} {:>10} {:>10} {:>10}", "ns per token", "median", "min", "max")?;
        for (who, name) in self.names.iter().enumerate() {
            let Spread { median, min, max } = self.nanoseconds(who);
            writeln!(f, "{name:14} {median:10.0} {min:10.0} {max:10.0}")?;
        }
        writeln!(f, "{:30} {:>10} {:>10} {:>10}", "ratio within a round", "median", "min", "max")?;
        for than in 1..self.names.len() {
            let Spread { median, min, max } = self.ratio(0, than);
            let pair = format!("{} / {}", self.names[0], self.names[than]);
            writeln!(f, "{pair:30} {median:10.3} {min:10.3} {max:10.3}")?;
        }
        Ok(())
    }
}
