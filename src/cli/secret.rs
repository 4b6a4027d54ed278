//! Client secrets, as commands make them.

pub(super) use crate::service::generate_secret as generate;
