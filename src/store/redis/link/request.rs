//! Commands as they are sent.

use redis::{Cmd, Pipeline};

/// Some commands, one behind the other.
#[derive(Default)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// How many they are.
    pub(super) count: usize,
}

impl Request {
    /// One command more, of these words.
    pub(super) fn command<'w>(&mut self, words: impl IntoIterator<Item = &'w [u8], IntoIter: Clone>) {
        let words = words.into_iter();
        let (count, length) = words.clone().fold((0, 0), |(count, length), word| (count + 1, length + word.len()));
        // Beside each word its length, and two ends of line.
        self.bytes.reserve(length + count * 16 + 16);
        self.header(b'*', count);
        for word in words {
            self.header(b'$', word.len());
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    /// The same for one that has been put together elsewhere.
    pub(super) fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.bytes);
        self.count += 1;
    }

    fn header(&mut self, kind: u8, number: usize) {
        self.bytes.push(kind);
        let (mut digits, mut rest, mut at) = ([0; 20], number, 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

impl From<Pipeline> for Request {
    fn from(pipe: Pipeline) -> Self {
        let mut request = Self::default();
        pipe.cmd_iter().for_each(|command| request.add(command));
        request
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_command_is_written_as_the_library_writes_it(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..40),
        ) {
            let mut request = Request::default();
            request.command(words.iter().map(Vec::as_slice));
            let mut known = Cmd::new();
            for word in &words {
                known.arg(word.as_slice());
            }
            prop_assert_eq!(request.bytes, known.get_packed_command());
        }
    }
}
