//! The service that the layer makes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use tower_service::Service;

use super::Gate;

/// A service that is reached only with a token that is good and enough.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Judged<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Judges at once: `inner` is called here, where it was found ready, or not at all. Then it is still ready.
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(request.headers()) {
            Ok(verified) => {
                // Whoever prints the headers from here on prints no token.
                if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
                    value.set_sensitive(true);
                }
                request.extensions_mut().insert(verified);
                Judged(State::Passed(Box::pin(self.inner.call(request))))
            }
            Err(refusal) => {
                tracing::debug!(reason = refusal.code(), "a request does not pass");
                Judged(State::Refused(Some(self.gate.answer(&refusal))))
            }
        }
    }
}

/// The answer to a request: of the service, or the refusal.
pub struct Judged<F, R>(State<F, R>);

enum State<F, R> {
    Passed(Pin<Box<F>>),
    Refused(Option<Response<R>>),
}

/// What must not move lies in a box of its own.
impl<F, R> Unpin for Judged<F, R> {}

impl<F, R, E> Future for Judged<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Passed(inner) => inner.as_mut().poll(cx),
            State::Refused(answer) => Poll::Ready(Ok(answer.take().expect("a future is not polled after its end"))),
        }
    }
}

impl<F, R> fmt::Debug for Judged<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if matches!(self.0, State::Passed(_)) { "passed" } else { "refused" };
        f.debug_tuple("Judged").field(&state).finish()
    }
}
