//! Answers (RESP2), and how much one may be. The protocol lets a server announce any length, and whoever waits for it
//! holds all that has come: what is longer than any of our answers ends the connection before it is held.

use redis::Value;

/// No single string of ours is longer.
const STRING: u64 = 32 << 20;
/// No answer is longer, all in all.
const ANSWER: u64 = 64 << 20;
/// No list has more members.
const MEMBERS: u64 = 1 << 20;
/// Lists in lists.
const DEPTH: usize = 8;
/// A line: an error, a number.
const LINE: u64 = 16 << 10;

/// Why a connection ends on which something else than Redis answers.
pub(super) const NOT_RESP: &str = "what answers there does not speak RESP2";

#[derive(Clone, Copy, Default)]
enum At {
    /// Where an answer, or a member of one, begins.
    #[default]
    Start,
    /// In a line of text.
    Text { left: u64 },
    /// In a number that says how long what follows is.
    Length { list: bool, negative: bool, digits: u8, value: u64 },
    /// In a string, its end of line included.
    Body { left: u64 },
}

/// Reads along, and holds nothing but where it is.
#[derive(Default)]
pub(super) struct Scan {
    at: At,
    /// Members that are still to come, of each list that is open.
    open: Vec<u64>,
    /// Bytes of this answer so far.
    size: u64,
    /// Answers that are whole, since that was told.
    whole: usize,
}

impl Scan {
    /// What has come. Gives how many answers end in it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<usize, &'static str> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let taken = match self.at {
                At::Body { left } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.at = At::Body { left: left - taken as u64 };
                    taken
                }
                At::Start => {
                    self.at = begin(byte)?;
                    1
                }
                At::Text { left: 0 } => return Err("a line of the answer is too long"),
                At::Text { left } => {
                    self.at = At::Text { left: left - 1 };
                    1
                }
                At::Length { list, negative, digits, value } => {
                    self.at = length(byte, list, negative, digits, value)?;
                    1
                }
            };
            self.size += taken as u64;
            if self.size > ANSWER {
                return Err("the answer is too long");
            }
            self.turn(byte)?;
            bytes = if taken == 1 { rest } else { &bytes[taken..] };
        }
        Ok(std::mem::take(&mut self.whole))
    }

    /// What ends here: `byte` is the first of what was just taken.
    fn turn(&mut self, byte: u8) -> Result<(), &'static str> {
        match self.at {
            At::Text { .. } if byte == b'\n' => self.done(),
            At::Body { left: 0 } => self.done(),
            At::Length { list, negative, value, .. } if byte == b'\n' => match (list, negative, value) {
                (_, true, _) | (true, _, 0) => self.done(),
                (true, false, members) if members > MEMBERS => return Err("a list of the answer is too long"),
                (true, false, _) if self.open.len() == DEPTH => return Err("the answer is nested too deeply"),
                (true, false, members) => {
                    self.open.push(members);
                    self.at = At::Start;
                }
                (false, false, bytes) if bytes > STRING => return Err("a string of the answer is too long"),
                (false, false, bytes) => self.at = At::Body { left: bytes + 2 },
            },
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self) {
        self.at = At::Start;
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        (self.size, self.whole) = (0, self.whole + 1);
    }
}

fn begin(byte: u8) -> Result<At, &'static str> {
    match byte {
        b'+' | b'-' | b':' => Ok(At::Text { left: LINE }),
        b'$' => Ok(At::Length { list: false, negative: false, digits: 0, value: 0 }),
        b'*' => Ok(At::Length { list: true, negative: false, digits: 0, value: 0 }),
        _ => Err(NOT_RESP),
    }
}

fn length(byte: u8, list: bool, negative: bool, digits: u8, value: u64) -> Result<At, &'static str> {
    match byte {
        b'0'..=b'9' if digits < 18 => {
            Ok(At::Length { list, negative, digits: digits + 1, value: value * 10 + u64::from(byte - b'0') })
        }
        b'-' if digits == 0 && !negative => Ok(At::Length { list, negative: true, digits, value }),
        b'\r' | b'\n' if digits > 0 => Ok(At::Length { list, negative, digits, value }),
        _ => Err("a length in the answer is not a number"),
    }
}

/// The answer that these bytes begin with, which [`Scan`] has seen to be whole. None: they are none.
pub(super) fn answer(bytes: &mut &[u8]) -> Option<Value> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (whole, rest) = bytes.split_at(end + 2);
    *bytes = rest;
    let (kind, line) = whole[..end].split_first()?;
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    match kind {
        b'+' if line == b"OK" => Some(Value::Okay),
        b'+' => Some(Value::SimpleString(std::str::from_utf8(line).ok()?.into())),
        b'-' => redis::parse_redis_value(whole).ok(),
        b':' => number().map(Value::Int),
        b'$' => match usize::try_from(number()?) {
            Ok(length) => string(length, bytes).map(Value::BulkString),
            Err(_) => Some(Value::Nil),
        },
        b'*' => match usize::try_from(number()?) {
            Ok(members) => (0..members).map(|_| answer(bytes)).collect::<Option<_>>().map(Value::Array),
            Err(_) => Some(Value::Nil),
        },
        _ => None,
    }
}

fn string(length: usize, bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let (string, rest) = bytes.split_at_checked(length)?;
    *bytes = rest.strip_prefix(b"\r\n")?;
    Some(string.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &[u8] = b"*4\r\n$3\r\nabc\r\n:17\r\n*2\r\n$-1\r\n*0\r\n-ERR what\r\n+OK\r\n$0\r\n\r\n*-1\r\n";

    #[test]
    fn what_is_too_long_too_deep_or_no_answer_ends_the_connection() {
        for (bytes, why) in [
            (&b"$99999999999\r\n"[..], "a string of the answer is too long"),
            (b"$33554433\r\n", "a string of the answer is too long"),
            (b"*1048577\r\n", "a list of the answer is too long"),
            (b"*9999999999999999999\r\n", "a length in the answer is not a number"),
            (b"$--1\r\n", "a length in the answer is not a number"),
            (b"$\r\n", "a length in the answer is not a number"),
            (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "the answer is nested too deeply"),
            (b"HTTP/1.1 400 Bad Request\r\n", "what answers there does not speak RESP2"),
            (b"%1\r\n", "what answers there does not speak RESP2"),
        ] {
            assert_eq!(Scan::default().feed(bytes), Err(why), "{}", String::from_utf8_lossy(bytes));
        }
        let endless = vec![b'+'; 32 << 10];
        assert_eq!(Scan::default().feed(&endless), Err("a line of the answer is too long"));
        let mut scan = Scan::default();
        assert_eq!(scan.feed(b"*3\r\n"), Ok(0));
        let mut string = format!("${STRING}\r\n").into_bytes();
        string.resize(string.len() + STRING as usize, 0);
        string.extend(b"\r\n");
        scan.feed(&string).unwrap();
        assert_eq!(scan.feed(&string), Err("the answer is too long"));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_pieces_it_is_read_alike(cuts in proptest::collection::vec(0..GOOD.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut scan = Scan::default();
            let (mut from, mut whole) = (0, 0);
            for cut in cuts.into_iter().chain([GOOD.len()]) {
                whole += scan.feed(&GOOD[from..cut]).unwrap();
                from = cut;
            }
            prop_assert!(matches!(scan.at, At::Start) && scan.open.is_empty() && scan.size == 0);
            let mut rest = GOOD;
            let read: Vec<Value> = (0..whole).map(|_| answer(&mut rest).unwrap()).collect();
            prop_assert!(rest.is_empty());
            let known = redis::parse_redis_value;
            let (first, last) = GOOD.split_at(GOOD.len() - b"+OK\r\n$0\r\n\r\n*-1\r\n".len());
            prop_assert_eq!(read[0].clone(), known(first).unwrap());
            prop_assert_eq!(&read[1..], [Value::Okay, Value::BulkString(Vec::new()), Value::Nil]);
            prop_assert_eq!(known(last).unwrap(), Value::Okay);
        }

        #[test]
        fn no_bytes_panic_and_what_is_whole_is_read_as_the_library_reads_it(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'-'..b'4'], 0..40),
            ],
        ) {
            let whole = Scan::default().feed(&bytes);
            let mut rest = &bytes[..];
            let read = answer(&mut rest);
            if let (Ok(1..), Some(read)) = (whole, read) {
                prop_assert_eq!(read, redis::parse_redis_value(&bytes).unwrap());
            }
        }
    }
}
