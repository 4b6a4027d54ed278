//! Values and rules: no I/O, no clock, no async.

#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub(crate) mod bundle;
#[cfg(feature = "server")]
pub mod chain;
pub mod claims;
pub mod denial;
#[cfg(feature = "server")]
pub mod edition;
pub mod family;
pub mod feed;
pub mod ids;
#[cfg(feature = "server")]
mod installation;
pub mod jwk;
mod prepared;
pub mod reign;
pub mod report;
pub mod scope;
#[cfg(feature = "server")]
pub mod session;
pub mod time;

pub use ids::{Audience, ClientId, Kid, SessionId, Subject, SubjectRef, TokenId, VerifierName};
#[cfg(feature = "server")]
pub use installation::Installation;
pub use jwk::{Algorithm, Jwk, JwkSet, PublicKey};
pub use prepared::PreparedKey;
pub use scope::Scope;
pub use time::Timestamp;
