//! Blocks in turn, and medians of what is compared within one round.

use std::{fmt, time::Duration};

use rescind::clock::{Clock, SystemClock};

use crate::contenders::Contender;

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
    /// Lets every contender verify all tokens once per round. The order turns by one each round, so that nobody is
    /// always the one who comes after the cold cache of another.
    pub fn run(contenders: &[(&str, Contender)], tokens: usize, rounds: usize) -> Self {
        let clock = SystemClock::default();
        let warm_up = rounds / 10;
        let mut measured = Vec::with_capacity(rounds);
        for round in 0..rounds + warm_up {
            let mut row = vec![0.0; contenders.len()];
            for turn in 0..contenders.len() {
                let who = (round + turn) % contenders.len();
                row[who] = block(&clock, &contenders[who].1, tokens).as_nanos() as f64 / tokens as f64;
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

fn block(clock: &SystemClock, contender: &Contender, tokens: usize) -> Duration {
    let start = clock.monotonic();
    for token in 0..tokens {
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
