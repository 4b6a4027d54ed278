//! The tutorial is pasted into a shell as it is written, and says what it says it says.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::markdown::{Block, Document, documents};

/// The whole tutorial takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ends what one block says.
const MARK: &str = "\u{1e}";

/// bash in a process group of its own, ended with all that it began.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn the_tutorial_does_what_it_says() {
    let all = documents();
    let tutorial = all.iter().find(|d| d.name() == "docs/tutorial.md").expect("there is a tutorial");
    let steps = steps(tutorial);
    let place = tempfile::tempdir().unwrap();
    let said = paste(&script(&steps), place.path());
    let answers: Vec<&str> = said.split(MARK).collect();
    for (n, (block, expected)) in steps.iter().enumerate() {
        let got = answers.get(n).map_or("", |a| a.trim());
        assert!(n + 1 < answers.len(), "the block at line {} did not come to its end:\n{said}", block.line);
        if let Some(expected) = expected {
            let line = block.line;
            assert!(reads_as(got, expected), "the block at line {line} says\n{got}\nand not\n{expected}");
        }
    }
}

/// Each block to paste, with the answer that the tutorial shows after it.
fn steps(tutorial: &Document) -> Vec<(Block, Option<String>)> {
    let mut steps: Vec<(Block, Option<String>)> = Vec::new();
    for block in tutorial.blocks() {
        match (&*block.language, steps.last_mut()) {
            ("sh", _) => steps.push((block, None)),
            ("text", Some((_, answer))) => *answer = Some(block.text.trim().to_owned()),
            _ => {}
        }
    }
    assert!(steps.len() > 5, "the tutorial has {} blocks to paste", steps.len());
    steps
}

fn script(steps: &[(Block, Option<String>)]) -> String {
    let blocks = steps.iter().map(|(block, _)| format!("{}printf '{MARK}'\n", block.text));
    format!("set -euo pipefail\n{}", blocks.collect::<String>())
}

/// What the script says on stdout; it must end well.
pub fn paste(script: &str, place: &Path) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_rescind")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(place).process_group(0).stdin(Stdio::null());
    bash.env_clear().env("PATH", format!("{}:{path}", bin.display())).env("HOME", place);
    let mut shell = Shell(bash.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let (done, ended) = mpsc::channel();
    let (mut stdout, mut stderr) = (shell.0.stdout.take().unwrap(), shell.0.stderr.take().unwrap());
    std::thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        let _ = done.send(said);
    });
    let complaints = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        said
    });
    let said = ended.recv_timeout(PATIENCE).expect("it ends, and leaves nothing running");
    let status = shell.0.wait().unwrap();
    // What it has begun holds its stderr open.
    drop(shell);
    assert!(status.success(), "{status}: {said}\n{}", complaints.join().unwrap());
    said
}

/// Line by line; `…` stands for anything, and blanks in a row for one.
fn reads_as(got: &str, expected: &str) -> bool {
    let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |text: &str| text.lines().map(blanks).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let (got, expected) = (lines(got), lines(expected));
    got.len() == expected.len() && got.iter().zip(&expected).all(|(got, expected)| fits(got, expected))
}

fn fits(got: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = got.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_answer_that_differs_is_noticed() {
    assert!(reads_as("a  1\n\nb x y", "a 1\nb … y"));
    assert!(!reads_as("a 1", "a 2"));
    assert!(!reads_as("a 1\nb", "a 1"));
    assert!(!reads_as("b x z", "b … y"));
}
