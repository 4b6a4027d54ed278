//! Ed25519 private keys as OpenSSL reads and writes them: PKCS#8 in PEM, plain or under a passphrase.

use pkcs8::{
    AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef,
    SecretDocument,
    der::asn1::OctetStringRef,
    pkcs5::{EncryptionScheme, pbes2},
};
use zeroize::Zeroizing;

use super::secret::{Passphrase, SecretBytes};
use crate::clock::{Random, random_bytes};

/// RFC 8410 §3.
const ED25519: AlgorithmIdentifierRef<'static> =
    AlgorithmIdentifierRef { oid: ObjectIdentifier::new_unwrap("1.3.101.112"), parameters: None };
const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// RFC 8410 §7: the key is an OCTET STRING of 32 bytes inside the OCTET STRING of PKCS#8.
const INNER: [u8; 2] = [0x04, 0x20];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PemError {
    NotAKey(&'static str),
    Encrypted,
    WrongPassphrase,
}

/// A private key as it was read.
pub(super) struct Decoded {
    pub(super) seed: SecretBytes,
    pub(super) encrypted: bool,
}

/// PKCS#8 version 1 (RFC 5208): version 2, with the public key in it, is refused by OpenSSL and others.
pub(super) fn encode(seed: &SecretBytes, passphrase: Option<&Passphrase>, random: &dyn Random) -> Zeroizing<String> {
    let inner = Zeroizing::new([&INNER[..], seed.expose()].concat());
    let octets = OctetStringRef::new(&inner).expect("34 bytes are within DER's limits");
    let info = PrivateKeyInfoRef::new(ED25519, octets);
    let (label, document) = match passphrase {
        None => (PLAIN, SecretDocument::encode_msg(&info).map_err(Into::into)),
        Some(p) => (ENCRYPTED, info.encrypt_with_params(pbes2_parameters(random), p.expose())),
    };
    let document = document.expect("a key of fixed size encodes");
    document.to_pem(label, LineEnding::LF).expect("a short document fits into PEM")
}

pub(super) fn decode(pem: &[u8], passphrase: Option<&Passphrase>) -> Result<Decoded, PemError> {
    let text = std::str::from_utf8(pem).map_err(|_| PemError::NotAKey("not a PEM file"))?;
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| PemError::NotAKey("not a PEM file"))?;
    match label {
        PLAIN => Ok(Decoded { seed: seed_of(&document)?, encrypted: false }),
        ENCRYPTED => {
            let document = decrypt(&document, passphrase.ok_or(PemError::Encrypted)?)?;
            // With a wrong passphrase the padding is right once in 256 times; what comes out is noise then.
            let seed = seed_of(&document).map_err(|_| PemError::WrongPassphrase)?;
            Ok(Decoded { seed, encrypted: true })
        }
        _ => Err(PemError::NotAKey("not a PKCS#8 private key (BEGIN PRIVATE KEY)")),
    }
}

fn seed_of(document: &SecretDocument) -> Result<SecretBytes, PemError> {
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| PemError::NotAKey("not PKCS#8"))?;
    if info.algorithm != ED25519 {
        return Err(PemError::NotAKey("not an Ed25519 key"));
    }
    let seed = info.private_key.as_bytes().strip_prefix(&INNER).and_then(|seed| seed.try_into().ok());
    seed.map(SecretBytes::new).ok_or(PemError::NotAKey("not a private key of 32 bytes"))
}

fn decrypt(document: &SecretDocument, passphrase: &Passphrase) -> Result<SecretDocument, PemError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_| PemError::NotAKey("not an encrypted PKCS#8 key"))?;
    if !affordable(&info.encryption_algorithm) {
        return Err(PemError::NotAKey("encrypted with PBES1, or at a cost beyond any use"));
    }
    info.decrypt(passphrase.expose()).map_err(|_| PemError::WrongPassphrase)
}

/// The file says how much memory and time its key derivation takes; one changed bit must not take all of it.
fn affordable(scheme: &EncryptionScheme) -> bool {
    let Some(parameters) = scheme.pbes2() else { return false };
    match &parameters.kdf {
        pbes2::Kdf::Scrypt(s) => affordable_scrypt(s.cost_parameter, s.block_size.into(), s.parallelization.into()),
        pbes2::Kdf::Pbkdf2(p) => p.iteration_count <= 10_000_000,
        _ => false,
    }
}

/// At most 256 MiB, and 16 times over that.
pub(super) fn affordable_scrypt(n: u64, r: u64, p: u64) -> bool {
    n.checked_mul(r).and_then(|nr| nr.checked_mul(128)).is_some_and(|memory| memory <= 256 << 20) && p <= 16
}

fn pbes2_parameters(random: &dyn Random) -> pbes2::Parameters {
    // 2^14 takes 16 MiB; with 2^15 one is above the limit that OpenSSL sets itself, and it could not read the file.
    let cost = scrypt::Params::new(14, 8, 1).expect("these are valid (RFC 7914 §6)");
    let (salt, iv): ([u8; 16], [u8; 16]) = (random_bytes(random), random_bytes(random));
    pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).expect("a salt of 16 bytes is short enough")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandom;

    fn reads(pem: &str, passphrase: Option<&Passphrase>) -> Result<[u8; 32], PemError> {
        decode(pem.as_bytes(), passphrase).map(|d| *d.seed.expose())
    }

    #[test]
    fn rfc_8410_10_3_is_read_in_both_versions() {
        let seed = [
            0xd4, 0xee, 0x72, 0xdb, 0xf9, 0x13, 0x58, 0x4a, 0xd5, 0xb6, 0xd8, 0xf1, 0xf7, 0x69, 0xf8, 0xad, 0x3a, 0xfe,
            0x7c, 0x28, 0xcb, 0xf1, 0xd4, 0xfb, 0xe0, 0x97, 0xa8, 0x8f, 0x44, 0x75, 0x58, 0x42,
        ];
        let v1 = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        let v2 = "-----BEGIN PRIVATE KEY-----\n\
            MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
            Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
            -----END PRIVATE KEY-----\n";
        assert_eq!(reads(v1, None), Ok(seed));
        assert_eq!(reads(v2, None), Ok(seed));
        assert_eq!(*encode(&SecretBytes::new(seed), None, &SystemRandom), v1, "we write version 1");
    }

    #[test]
    fn an_encrypted_key_needs_its_passphrase() {
        let (right, wrong) = (Passphrase::new("right".into()).unwrap(), Passphrase::new("wrong".into()).unwrap());
        let pem = encode(&SecretBytes::new([7; 32]), Some(&right), &SystemRandom);
        assert_eq!(reads(&pem, Some(&right)), Ok([7; 32]));
        assert_eq!(reads(&pem, Some(&wrong)), Err(PemError::WrongPassphrase));
        assert_eq!(reads(&pem, None), Err(PemError::Encrypted));
    }

    #[test]
    fn a_cost_beyond_reason_is_refused_before_it_is_paid() {
        assert!(affordable_scrypt(1 << 14, 8, 1) && affordable_scrypt(1 << 17, 8, 1));
        assert!(!affordable_scrypt(1 << 40, 8, 1) && !affordable_scrypt(1 << 14, 8, 1 << 15));
        assert!(!affordable_scrypt(u64::MAX, u64::MAX, 1));
    }

    #[test]
    fn damaged_keys_are_errors_not_panics() {
        let pem = encode(&SecretBytes::new([7; 32]), None, &SystemRandom);
        for len in 0..pem.len() - 1 {
            assert!(decode(&pem.as_bytes()[..len], None).is_err(), "{len} bytes");
        }
        for at in 0..pem.len() {
            let mut bytes = pem.as_bytes().to_vec();
            bytes[at] ^= 0x11;
            let same = decode(&bytes, None).is_ok_and(|d| *d.seed.expose() == [7; 32]);
            assert!(!same || at >= pem.len() - 1, "byte {at} does not matter?");
        }
    }
}
