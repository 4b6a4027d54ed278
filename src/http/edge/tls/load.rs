//! Files into a server's configuration. Each message says which file is wrong, why, and how to mend it.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{TlsFiles, peers::AnyCertificate, validity::Validity};
use crate::model::Timestamp;

/// No chain or key is longer.
const MAX_FILE: u64 = 1 << 20;

/// Why TLS cannot be had with these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the key.
    #[error(
        "{path} can be reached by others than its owner and group (mode {mode:04o}); mend it with: chmod 640 '{path}'"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold what it should.
    #[error("{path} {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// The key is another certificate's.
    #[error(
        "{key} is not the key of {cert}: its first certificate has another public key; put the server's certificate first, or name its key"
    )]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Nobody would accept it today.
    #[error("{path} is valid from {from} to {until} only; renew it, or set this machine's clock")]
    Expired {
        /// Which.
        path: PathBuf,
        /// Its first second.
        from: String,
        /// Its last.
        until: String,
    },
}

/// The files' bytes.
pub(super) struct Texts {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// What is in use.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) expires: Timestamp,
    pub(super) print: [u8; 32],
    leaf: CertificateDer<'static>,
}

impl Loaded {
    pub(super) fn names(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (Ok(name), Ok(leaf)) = (ServerName::try_from(host), ParsedCertificate::try_from(&self.leaf)) else {
            return false;
        };
        rustls::client::verify_server_name(&leaf, &name).is_ok()
    }
}

pub(super) fn read(files: &TlsFiles) -> Result<Texts, TlsError> {
    let client_ca = files.client_ca.as_deref().map(|path| bytes(path, false)).transpose()?;
    Ok(Texts { cert: bytes(&files.cert, false)?, key: Zeroizing::new(bytes(&files.key, true)?), client_ca })
}

fn bytes(path: &Path, secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let about: fs::Metadata = file.metadata().map_err(failed)?;
    // A group may read it: that is how the programs that fetch certificates share them.
    let mode = about.permissions().mode() & 0o7777;
    if secret && mode & 0o027 != 0 {
        return Err(TlsError::Open { path: path.into(), mode });
    }
    let mut out = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut out).map_err(failed)?;
    Ok(out)
}

impl Texts {
    /// Names a state of the files.
    pub(super) fn print(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.cert[..], &self.key[..], self.client_ca.as_deref().unwrap_or_default()] {
            hash.update(Sha256::digest(part));
        }
        hash.finalize().into()
    }

    pub(super) fn check(&self, files: &TlsFiles, now: Timestamp) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.cert, &files.cert)?;
        let leaf = chain.first().cloned().expect("there is at least one");
        let expires = in_force(&leaf, &files.cert, now)?;
        let provider = Arc::new(ring::default_provider());
        let certified = pair(chain, private_key(&self.key, &files.key)?, files, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has the suites of TLS 1.2 and 1.3");
        let builder = match self.peers(files, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Loaded { config: Arc::new(config), expires, print: self.print(), leaf })
    }

    /// Who may show a certificate; none if nobody is asked for one.
    fn peers(
        &self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(text)) = (&files.client_ca, &self.client_ca) else {
            let any = || Arc::new(AnyCertificate::new(provider)) as Arc<dyn ClientCertVerifier>;
            return Ok(files.client_certificates.then(any));
        };
        let bad = |e: &dyn std::fmt::Display| content(path, format!("holds no certificate authority: {e}"));
        let mut roots = RootCertStore::empty();
        for root in certificates(text, path)? {
            roots.add(root).map_err(|e| bad(&e))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = if files.client_required { verifier } else { verifier.allow_unauthenticated() };
        verifier.build().map(|v| Some(v as _)).map_err(|e| bad(&e))
    }
}

fn content(path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.into(), what: what.into() }
}

fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|e| content(path, format!("is not PEM: {e}")))?;
    if all.is_empty() {
        let what = match has(text, "PRIVATE KEY-----") {
            true => "holds a private key and no certificate: are `cert` and `key` exchanged?",
            false => "holds no certificate; it must begin with -----BEGIN CERTIFICATE-----",
        };
        return Err(content(path, what));
    }
    Ok(all)
}

fn private_key(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    if has(text, "BEGIN ENCRYPTED PRIVATE KEY-----") || has(text, "Proc-Type: 4,ENCRYPTED") {
        let what = "is encrypted, and nobody is there at a start to type its passphrase; write it without one, readable \
                    by its owner only: openssl pkey -in OLD -out NEW";
        return Err(content(path, what));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        let what = match has(text, "BEGIN CERTIFICATE-----") {
            true => "holds a certificate and no private key: are `cert` and `key` exchanged?",
            false => "holds no private key; it must begin with -----BEGIN PRIVATE KEY-----",
        };
        content(path, what)
    })
}

fn has(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|w| w == word.as_bytes())
}

fn in_force(leaf: &CertificateDer<'_>, path: &Path, now: Timestamp) -> Result<Timestamp, TlsError> {
    let Some(Validity { from, until }) = Validity::of(leaf) else {
        return Err(content(path, "holds something that is no X.509 certificate"));
    };
    if (from..=until).contains(&now) {
        return Ok(until);
    }
    Err(TlsError::Expired { path: path.into(), from: from.to_rfc3339(), until: until.to_rfc3339() })
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &TlsFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() },
        rustls::Error::InvalidCertificate(_) => content(&files.cert, format!("cannot be used: {e}")),
        _ => content(&files.key, format!("cannot be used ({e}); ECDSA P-256 and P-384, Ed25519 and RSA can")),
    })
}
