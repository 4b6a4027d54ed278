//! A passphrase from whoever sits at the terminal. It is never shown, and what was typed is wiped.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{Exit, Failure, OrExit};
use crate::keyring::{Keyring, KeyringError, Passphrase};

/// The longest passphrase.
const MAX: usize = 1024;

/// Whether somebody is there to be asked.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Asks for one that exists.
pub(super) fn ask(what: &str) -> Result<Zeroizing<String>, Failure> {
    let line = Hidden::begin().and_then(|_hidden| {
        let _ = write!(io::stderr(), "{what}: ");
        let line = read_line(read_byte);
        let _ = writeln!(io::stderr());
        line
    });
    match line.or_exit(Exit::CannotTell, "cannot read from the terminal")? {
        Some(line) if !line.is_empty() => Ok(line),
        _ => Err(Failure::new(Exit::No, anyhow::anyhow!("no passphrase was typed; nothing was done"))),
    }
}

/// Asks for a new one, twice: nobody sees what they type, and nobody can find it out afterwards.
pub(super) fn ask_for_new(what: &str) -> Result<Zeroizing<String>, Failure> {
    let first = ask(what)?;
    if *ask("The same again")? == *first {
        return Ok(first);
    }
    Err(Failure::new(Exit::No, anyhow::anyhow!("these are two passphrases; nothing was done")))
}

/// For keys that are encrypted, where no passphrase was configured and somebody is there. None: there is nothing to ask,
/// or nobody.
pub(super) fn for_keys(dir: &Path) -> Result<Option<Passphrase>, Failure> {
    if !is_possible() || !matches!(Keyring::inspect(dir, None), Err(KeyringError::PassphraseNeeded { .. })) {
        return Ok(None);
    }
    let typed = ask(&format!("Passphrase of the keys in {}", dir.display()))?;
    Passphrase::new((*typed).clone()).map(Some).or_exit(Exit::Usage, "the passphrase")
}

/// While it lives the terminal shows nothing of what is typed, and hands it over key by key: also Ctrl-C, which would
/// else leave a terminal behind that shows nothing.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Not through the buffer of stdin, which would keep it. None: it has ended.
fn read_byte() -> io::Result<Option<u8>> {
    let mut byte = Zeroizing::new([0; 1]);
    loop {
        match rustix::io::read(io::stdin(), &mut byte[..]) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// What was typed up to the end of the line. None: whoever typed has thought better of it.
fn read_line(mut next: impl FnMut() -> io::Result<Option<u8>>) -> io::Result<Option<Zeroizing<String>>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut typed = Zeroizing::new(Vec::with_capacity(MAX));
    while let Some(byte) = next()? {
        match byte {
            b'\r' | b'\n' => {
                let text = std::str::from_utf8(&typed).map_err(|_| invalid("what was typed is not UTF-8"))?;
                return Ok(Some(Zeroizing::new(text.to_owned())));
            }
            // Ctrl-C, Ctrl-D.
            3 | 4 => return Ok(None),
            // Ctrl-U.
            0x15 => typed.clear(),
            // A character may be several bytes.
            8 | 0x7f => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            _ if typed.len() == MAX => return Err(invalid("a passphrase is 1024 bytes at most")),
            _ => typed.push(byte),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Option<String> {
        let mut keys = keys.iter().copied();
        read_line(|| Ok(keys.next())).unwrap().map(|line| (*line).clone())
    }

    #[test]
    fn a_line_is_what_is_left_of_what_was_typed() {
        assert_eq!(typed(b"horse\n").as_deref(), Some("horse"));
        assert_eq!(typed("hör\u{7f}\u{7f}orse\r".as_bytes()).as_deref(), Some("horse"));
        assert_eq!(typed(b"wrong\x15horse\n").as_deref(), Some("horse"));
        assert_eq!(typed(b"\x7f\n").as_deref(), Some(""));
        for given_up in [&b"hor\x03"[..], b"\x04", b"hor"] {
            assert_eq!(typed(given_up), None);
        }
        assert!(read_line(|| Ok(Some(b'x'))).is_err(), "it does not grow without end");
    }
}
