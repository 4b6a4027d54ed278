//! What goes over one connection: whatever is asked at about the same time is sent at once, and answers are handed out in
//! the order of asking.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, oneshot},
    task::yield_now,
};

use super::{
    request::Request,
    resp::{NOT_RESP, Scan, answer},
    wire::Lost,
};

/// How much is read at once.
const READ: usize = 16 << 10;
/// How much room is kept for what was long.
const KEPT: usize = 1 << 20;

/// What those who ask share with whoever carries it.
#[derive(Default)]
pub(super) struct Line {
    asked: Mutex<Asked>,
    /// There is something to be sent.
    more: Notify,
}

#[derive(Default)]
struct Asked {
    /// What has not been sent yet.
    bytes: Vec<u8>,
    /// Who waits, in the order of asking.
    waiting: VecDeque<Waiting>,
    /// Why nobody can ask any more.
    over: Option<String>,
}

struct Waiting {
    count: usize,
    answers: Vec<Value>,
    told: oneshot::Sender<Vec<Value>>,
}

impl Line {
    /// Asks, and gives one answer for each command. What is dropped while it waits may still be sent.
    pub(super) async fn ask(&self, request: &Request) -> Result<Vec<Value>, Lost> {
        let (told, answered) = oneshot::channel();
        let count = request.count;
        {
            let mut asked = self.lock();
            if let Some(why) = &asked.over {
                return Err(Lost(why.clone()));
            }
            asked.bytes.extend_from_slice(&request.bytes);
            asked.waiting.push_back(Waiting { count, answers: Vec::with_capacity(count), told });
        }
        self.more.notify_one();
        answered.await.map_err(|_| Lost(self.lock().over.clone().unwrap_or_default()))
    }

    /// Carries what is asked, until the stream ends or this is dropped: then whoever waits is told so.
    pub(super) async fn carry<S: AsyncRead + AsyncWrite>(self: Arc<Self>, stream: S) {
        let end = End(&self);
        let (read, write) = tokio::io::split(stream);
        let why = tokio::select! {
            why = self.receive(read) => why,
            why = self.send(write) => why,
        };
        end.0.end(&why.to_string());
    }

    async fn send(&self, mut write: impl AsyncWrite + Unpin) -> io::Error {
        let mut bytes = Vec::new();
        loop {
            self.more.notified().await;
            // Whoever is about to ask, too, does so first: one writing for all of them.
            yield_now().await;
            std::mem::swap(&mut bytes, &mut self.lock().bytes);
            let sent = async {
                write.write_all(&bytes).await?;
                write.flush().await
            };
            if let Err(error) = sent.await {
                return error;
            }
            emptied(&mut bytes);
        }
    }

    async fn receive(&self, mut read: impl AsyncRead + Unpin) -> io::Error {
        let (mut received, mut scan, mut next) = (Vec::new(), Scan::default(), None);
        loop {
            received.reserve(READ);
            let known = received.len();
            match read.read_buf(&mut received).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
            let mut rest = &received[..];
            let handed = scan.feed(&received[known..]).and_then(|whole| {
                (0..whole).try_for_each(|_| self.hand_out(answer(&mut rest).ok_or(NOT_RESP)?, &mut next))
            });
            if let Err(why) = handed {
                return io::Error::new(io::ErrorKind::InvalidData, why);
            }
            if rest.is_empty() {
                emptied(&mut received);
            } else {
                let taken = received.len() - rest.len();
                received.drain(..taken);
            }
        }
    }

    /// An answer, to whoever is next.
    fn hand_out(&self, answer: Value, next: &mut Option<Waiting>) -> Result<(), &'static str> {
        let mut waiting =
            next.take().or_else(|| self.lock().waiting.pop_front()).ok_or("nobody asked for this answer")?;
        waiting.answers.push(answer);
        if waiting.answers.len() < waiting.count {
            *next = Some(waiting);
        } else {
            // Whoever has gone away meanwhile does not want to know.
            let _ = waiting.told.send(waiting.answers);
        }
        Ok(())
    }

    fn end(&self, why: &str) {
        let mut asked = self.lock();
        asked.over.get_or_insert_with(|| why.into());
        asked.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn emptied(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.shrink_to(KEPT);
}

/// Nobody waits for what is no more, however it ended.
struct End<'l>(&'l Line);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end("the connection was given up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(word: &str) -> Request {
        let mut request = Request::default();
        request.command([&b"PING"[..], word.as_bytes()]);
        request
    }

    #[tokio::test]
    async fn what_is_asked_together_is_sent_at_once_and_each_gets_its_own_answer() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let line = Arc::new(Line::default());
        tokio::spawn(line.clone().carry(ours));
        let words: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let asked: Vec<_> = words
            .iter()
            .map(|word| {
                let (line, pipe) = (line.clone(), ping(word));
                tokio::spawn(async move { line.ask(&pipe).await })
            })
            .collect();
        let mut read = vec![0; 1 << 16];
        let length = theirs.read(&mut read).await.unwrap();
        let all: Vec<u8> = words.iter().flat_map(|word| ping(word).bytes).collect();
        assert_eq!(&read[..length], all);
        let answers: String = words.iter().map(|word| format!("+{word}\r\n")).collect();
        for piece in answers.as_bytes().chunks(7) {
            theirs.write_all(piece).await.unwrap();
        }
        for (asked, word) in asked.into_iter().zip(words) {
            assert_eq!(asked.await.unwrap().unwrap(), [Value::SimpleString(word)]);
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_connection_and_whoever_waits_is_told() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let line = Arc::new(Line::default());
        let carried = tokio::spawn(line.clone().carry(ours));
        let (waits, pipe) = (line.clone(), ping("a"));
        let waits = tokio::spawn(async move { waits.ask(&pipe).await });
        assert!(theirs.read(&mut [0; 64]).await.unwrap() > 0);
        theirs.write_all(b"+a\r\n+b\r\n").await.unwrap();
        assert_eq!(waits.await.unwrap().unwrap(), [Value::SimpleString("a".into())]);
        carried.await.unwrap();
        assert_eq!(line.ask(&ping("c")).await.unwrap_err().0, "nobody asked for this answer");
    }

    #[tokio::test]
    async fn a_connection_that_is_given_up_leaves_nobody_waiting() {
        let (ours, _theirs) = tokio::io::duplex(1 << 16);
        let line = Arc::new(Line::default());
        let carried = tokio::spawn(line.clone().carry(ours));
        let (waits, pipe) = (line.clone(), ping("a"));
        let waits = tokio::spawn(async move { waits.ask(&pipe).await });
        tokio::task::yield_now().await;
        carried.abort();
        assert_eq!(waits.await.unwrap().unwrap_err().0, "the connection was given up");
    }
}
