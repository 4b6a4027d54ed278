//! Medians over rounds: a table for people, one line of JSON for machines.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::load::Round;

/// One measured figure of a round.
type Figure = (&'static str, fn(&Round) -> f64);

/// Each is the median over the rounds.
const FIGURES: [Figure; 11] = [
    ("per_second", |r| r.per_second),
    ("p50_ms", |r| r.p50_ms),
    ("p99_ms", |r| r.p99_ms),
    ("max_ms", |r| r.max_ms),
    ("server_user_us", |r| r.server_user_us),
    ("server_system_us", |r| r.server_system_us),
    ("beside_us", |r| r.beside_us),
    ("generator_us", |r| r.generator_us),
    ("written_bytes", |r| r.written_bytes),
    ("resident_mib", |r| r.resident_mib),
    ("others_cores", |r| r.others_cores),
];

/// All rounds of one server.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
}

impl Series {
    pub(crate) fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors).sum()
    }

    fn median(&self, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// By how much it is faster than another, as the median over rounds that were run by turns.
    #[allow(dead_code, reason = "not every bench compares")]
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        median(
            self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ours.per_second / theirs.per_second).collect(),
        )
    }

    /// The same by the processor time that an exchange takes, of everybody who takes part in it: what others did on the
    /// machine meanwhile matters less to it.
    #[allow(dead_code, reason = "not every bench compares")]
    pub(crate) fn ratio_of_work(&self, other: &Self) -> f64 {
        let work = |r: &Round| r.server_user_us + r.server_system_us + r.beside_us + r.generator_us;
        median(self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| work(theirs) / work(ours)).collect())
    }

    fn range(&self, of: fn(&Round) -> f64) -> (f64, f64) {
        let values = || self.rounds.iter().map(of);
        (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    }

    fn json(&self) -> Value {
        let mut object: Map<String, Value> =
            FIGURES.iter().map(|(name, of)| ((*name).into(), json!(self.median(*of)))).collect();
        object.insert("errors".into(), self.errors().into());
        Value::Object(object)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The bare disk: how often per second it was waited for, and the median wait, in each round.
#[derive(Default)]
pub(crate) struct Syncs {
    per_second: Vec<f64>,
    p50_ms: Vec<f64>,
}

impl Syncs {
    /// Adds a round's sorted durations.
    pub(crate) fn add(&mut self, took: &[Duration]) {
        self.per_second.push(took.len() as f64 / took.iter().sum::<Duration>().as_secs_f64());
        self.p50_ms.push(took[took.len() / 2].as_secs_f64() * 1e3);
    }

    fn medians(&self) -> (f64, f64) {
        (median(self.per_second.clone()), median(self.p50_ms.clone()))
    }
}

/// The table.
pub(crate) fn print(all: &[Series], disk: &[(&str, Syncs)]) {
    println!(
        "{:24} {:>10} {:>19} {:>7} {:>7} {:>7} {:>16} {:>9} {:>9} {:>9} {:>8} {:>6}",
        "medians",
        "per second",
        "min - max",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server us (u+s)",
        "beside us",
        "client us",
        "B written",
        "RSS MiB",
        "others"
    );
    for series in all {
        let [rate, p50, p99, max, user, system, beside, generator, written, resident, others] =
            FIGURES.map(|(_, of)| series.median(of));
        let (low, high) = series.range(|r| r.per_second);
        println!(
            "{:24} {rate:10.0} {:>19} {p50:7.2} {p99:7.2} {max:7.2} {:>16} {beside:9.1} {generator:9.1} {written:9.0} {resident:8.1} {others:6.2}",
            series.name,
            format!("{low:.0} - {high:.0}"),
            format!("{user:.1} + {system:.1}"),
        );
    }
    for (name, syncs) in disk {
        let (per_second, p50) = syncs.medians();
        println!("{name:24} {per_second:10.0} {:>19} {p50:7.2}", "");
    }
}

/// The line.
pub(crate) fn json_line(all: &[Series], disk: &[(&str, Syncs)]) -> String {
    let servers = all.iter().map(|series| (series.name.replace(' ', "_"), series.json()));
    let disks = disk.iter().map(|(name, syncs)| {
        let (per_second, p50_ms) = syncs.medians();
        (name.replace(' ', "_"), json!({ "per_second": per_second, "p50_ms": p50_ms }))
    });
    let figures: Map<String, Value> = servers.chain(disks).collect();
    json!({ "bench": "refresh", "figures": figures }).to_string()
}
