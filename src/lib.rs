//! *Stateless tokens that you can take back.* Short-lived Ed25519-signed access tokens that any service verifies
//! offline, rotating refresh tokens tracked in families, and a denylist that makes "revoked" mean revoked now.
//!
//! ```text
//!  client                operator           resource server
//!    │                      │                (offline)
//!  http/                  cli/                   │
//!    └─────────┬────────────┘                verifier ◄── JWKS + revocation feed
//!           service   open · refresh ·           │
//!              │      revoke · introspect        │
//!    ┌─────────┼──────────┬──────────┐           │
//!  issuer   families   denylist   keyring        │
//!    │         └────┬─────┘ ▲                    │
//!    │            store     └────────────────────┘
//!  model    values and rules: no I/O, no clock, no async
//! ```

#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
#[cfg(feature = "server")]
pub mod denylist;
#[cfg(feature = "server")]
pub mod families;
#[cfg(feature = "server")]
pub mod feed;
#[cfg(all(feature = "server", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "tower")]
pub mod guard;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod issuer;
#[cfg(feature = "server")]
pub mod keyring;
pub mod model;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod sidecar;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "verifier")]
pub mod verifier;
