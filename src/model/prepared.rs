//! A public key that many signatures are checked with.

use std::fmt;

use curve25519_dalek::Scalar;
use sha2::{Digest, Sha512};

use self::multiples::Multiples;
use super::{PublicKey, jwk::is_small_order};

/// A public key with multiples of its point at hand, which take the place of most of the work of a check. Tables and
/// multiplication are those of curve25519-dalek.
pub struct PreparedKey {
    key: PublicKey,
    multiples: Box<Multiples>,
}

impl PreparedKey {
    /// Computes the multiples.
    #[must_use]
    pub fn new(key: PublicKey) -> Self {
        Self { key, multiples: Box::new(Multiples::of(-key.point())) }
    }

    /// Gives the verdict of [`PublicKey::verifies`], by the same steps (RFC 8032 §5.1.7): S is below the order, and
    /// S·B − k·A is encoded as R, which is not of small order.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (Some(r), Some(s)) = (signature.first_chunk::<32>(), signature.last_chunk::<32>()) else { return false };
        let Some(s) = Scalar::from_canonical_bytes(*s).into_option() else { return false };
        let hash = Sha512::new().chain_update(r).chain_update(self.key.to_bytes()).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        !is_small_order(*r) && self.multiples.sum(&s, &k).compress().to_bytes() == *r
    }
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PreparedKey").field(&self.key.x()).finish()
    }
}

/// On any processor: 30 KiB for each key, and no doublings to speak of.
#[cfg(not(target_feature = "avx512ifma"))]
mod multiples {
    use curve25519_dalek::{
        EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_TABLE, edwards::EdwardsBasepointTable,
        traits::BasepointTable,
    };

    pub(super) struct Multiples(EdwardsBasepointTable);

    impl Multiples {
        pub(super) fn of(point: EdwardsPoint) -> Self {
            Self(EdwardsBasepointTable::create(&point))
        }
        /// `b` times the base point, and `p` times ours.
        pub(super) fn sum(&self, b: &Scalar, p: &Scalar) -> EdwardsPoint {
            ED25519_BASEPOINT_TABLE * b + &self.0 * p
        }
    }
}

/// In a program that is compiled for processors with AVX-512 IFMA, whose doublings are cheap enough. (Found at run time
/// only, they are not: the calls between the parts cost what the instructions save.)
#[cfg(target_feature = "avx512ifma")]
mod multiples {
    use curve25519_dalek::{
        EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, edwards::VartimeEdwardsPrecomputation,
        traits::VartimePrecomputedMultiscalarMul,
    };

    pub(super) struct Multiples(VartimeEdwardsPrecomputation);

    impl Multiples {
        pub(super) fn of(point: EdwardsPoint) -> Self {
            Self(VartimeEdwardsPrecomputation::new([ED25519_BASEPOINT_POINT, point]))
        }
        /// `b` times the base point, and `p` times ours. Nothing here is secret, so it need not take constant time.
        pub(super) fn sum(&self, b: &Scalar, p: &Scalar) -> EdwardsPoint {
            self.0.vartime_multiscalar_mul([b, p])
        }
    }
}
