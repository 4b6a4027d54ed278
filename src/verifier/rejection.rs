//! Why a token is refused.

/// The reason why a token is refused. The wire says only `invalid_token` (RFC 6750 §3.1); this is for the log.
///
/// The reasons come in the order of the checks: spelling, header, key, signature, and only then claims. So each one
/// from [`Rejection::ClaimsNotObject`] on is about a token that our issuer did sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Longer than [`MAX_TOKEN`](super::MAX_TOKEN).
    #[error("token is longer than 8 KiB")]
    TooLong,
    /// Not a compact JWS: header, payload, signature (RFC 7515 §7.1).
    #[error("token does not have three segments")]
    SegmentCount,
    /// A byte that base64url does not have (RFC 4648 §5).
    #[error("token holds a character that is not base64url")]
    Character,
    /// Base64url in a JWS carries no `=` (RFC 7515 §2).
    #[error("token is padded")]
    Padding,
    /// Bits after the last byte, or a length that no bytes have: a second spelling of one token.
    #[error("a segment is not canonical base64url")]
    NotCanonical,

    /// The header is not one JSON object.
    #[error("header is not a JSON object")]
    HeaderNotObject,
    /// The header nests deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("header nests too deep")]
    HeaderTooDeep,
    /// A member comes twice, in whatever spelling (RFC 7515 §4).
    #[error("header has a member twice")]
    HeaderDuplicate,
    /// This header member is not a string.
    #[error("header member `{0}` is not a string")]
    HeaderMistyped(&'static str),
    /// A header member that brings its own key or changes how a token is read (RFC 8725 §3.10, RFC 7797).
    #[error("header member `{0}` is not allowed")]
    HeaderForbidden(&'static str),
    /// `typ` is not that of an access token (RFC 9068 §4).
    #[error("typ is not `at+jwt`")]
    Type,
    /// The header names no key.
    #[error("header has no kid")]
    KeyIdMissing,
    /// The header names a key that is not in the set.
    #[error("kid is unknown")]
    KeyUnknown,
    /// `alg` is not the one algorithm of the key (RFC 8725 §3.1).
    #[error("alg is not that of the key")]
    Algorithm,
    /// A signature that has not 64 bytes (RFC 8032 §5.1.6).
    #[error("signature does not have 64 bytes")]
    SignatureLength,
    /// The signature does not hold, by the strict rules.
    #[error("signature does not hold")]
    Signature,

    /// The payload is not one JSON object.
    #[error("payload is not a JSON object")]
    ClaimsNotObject,
    /// The claims nest deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("claims nest too deep")]
    ClaimsTooDeep,
    /// A member comes twice, in whatever spelling and at whatever depth (RFC 7519 §4).
    #[error("claims have a member twice")]
    ClaimsDuplicate,
    /// A required claim is missing (RFC 9068 §2.2).
    #[error("claim `{0}` is missing")]
    ClaimMissing(&'static str),
    /// A claim is not of its type, or outside what its type allows.
    #[error("claim `{0}` is not of its type")]
    ClaimMistyped(&'static str),
    /// A time that is not a whole, non-negative number of seconds within 2^48 milliseconds.
    #[error("claim `{0}` is not a whole number of seconds")]
    ClaimNotATime(&'static str),
    /// An identifier that is not a UUID of version 7 in its canonical spelling.
    #[error("claim `{0}` is not a UUID of version 7")]
    ClaimNotUuidV7(&'static str),
    /// The token is bound to a key (RFC 7800), and this verifier does not check the proof.
    #[error("token needs a proof of possession")]
    ProofRequired,
    /// The claims beyond the profile are not of the type that the caller asked for.
    #[error("custom claims are not of the expected shape")]
    CustomClaims,
    /// From another issuer.
    #[error("issuer is another")]
    Issuer,
    /// For others.
    #[error("audience is another")]
    Audience,
    /// `exp` is not after `iat`.
    #[error("exp is not after iat")]
    EndsBeforeIssued,
    /// `exp − iat` is above the permitted maximum.
    #[error("token lives longer than permitted")]
    LivesTooLong,
    /// `jti` is stamped with another instant than `iat`, so a cut-off could miss the token.
    #[error("jti and iat disagree")]
    StampMismatch,
    /// `exp` has passed, by more than the leeway.
    #[error("token has expired")]
    Expired,
    /// `nbf` is to come, by more than the leeway.
    #[error("token is not valid yet")]
    NotYetValid,
    /// `iat` is to come, by more than the leeway.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// It, its session, its subject, its client, its key or everything has been revoked.
    #[error("token has been revoked")]
    Revoked,
    /// How or when the subject authenticated is not enough here (RFC 9470 §3).
    #[error("the subject must authenticate again, or more strongly")]
    InsufficientAuthentication,
    /// A scope is missing that is needed here (RFC 6750 §3.1).
    #[error("token lacks a scope")]
    InsufficientScope,
}

impl Rejection {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::SegmentCount => "segment_count",
            Self::Character => "character",
            Self::Padding => "padding",
            Self::NotCanonical => "not_canonical",
            Self::HeaderNotObject => "header_not_object",
            Self::HeaderTooDeep => "header_too_deep",
            Self::HeaderDuplicate => "header_duplicate",
            Self::HeaderMistyped(_) => "header_mistyped",
            Self::HeaderForbidden(_) => "header_forbidden",
            Self::Type => "type",
            Self::KeyIdMissing => "key_id_missing",
            Self::KeyUnknown => "key_unknown",
            Self::Algorithm => "algorithm",
            Self::SignatureLength => "signature_length",
            Self::Signature => "signature",
            Self::ClaimsNotObject => "claims_not_object",
            Self::ClaimsTooDeep => "claims_too_deep",
            Self::ClaimsDuplicate => "claims_duplicate",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimMistyped(_) => "claim_mistyped",
            Self::ClaimNotATime(_) => "claim_not_a_time",
            Self::ClaimNotUuidV7(_) => "claim_not_uuid_v7",
            Self::ProofRequired => "proof_required",
            Self::CustomClaims => "custom_claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::EndsBeforeIssued => "ends_before_issued",
            Self::LivesTooLong => "lives_too_long",
            Self::StampMismatch => "stamp_mismatch",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::Revoked => "revoked",
            Self::InsufficientAuthentication => "insufficient_user_authentication",
            Self::InsufficientScope => "insufficient_scope",
        }
    }

    /// The header member or claim that it is about, if it is about one.
    #[must_use]
    pub const fn member(&self) -> Option<&'static str> {
        match self {
            Self::HeaderMistyped(name)
            | Self::HeaderForbidden(name)
            | Self::ClaimMissing(name)
            | Self::ClaimMistyped(name)
            | Self::ClaimNotATime(name)
            | Self::ClaimNotUuidV7(name) => Some(name),
            _ => None,
        }
    }
}
