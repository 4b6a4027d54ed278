//! TLS towards the servers, with a provider that is named here: a default of the whole process would be somebody
//! else's to set.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use zeroize::Zeroizing;

use super::OpenError;
use crate::store::redis::url::TlsPaths;

/// No certificate, key or password is longer.
const MAX_FILE: u64 = 1 << 20;

/// What a file holds. Of a secret: only if no others than its owner and group can reach it.
pub(super) fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let failed = |source| OpenError::File { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if secret && mode & 0o007 != 0 {
        return Err(OpenError::Readable { path: path.into(), mode });
    }
    let mut out = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut out).map_err(failed)?;
    Ok(out)
}

pub(super) fn config(paths: &TlsPaths) -> Result<Arc<ClientConfig>, OpenError> {
    let unusable = |e: rustls::Error| OpenError::Tls(e.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match &paths.ca {
        None => builder.with_platform_verifier().map_err(unusable)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|e| content(path, &format!("holds what is no certificate authority: {e}")))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some((cert, key)) = &paths.identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let secret = PrivateKeyDer::from_pem_slice(&read(key, true)?).map_err(|_| {
        content(key, "holds no private key without a passphrase; it must begin with -----BEGIN PRIVATE KEY-----")
    })?;
    let config = builder.with_client_auth_cert(certificates(cert)?, secret);
    config.map(Arc::new).map_err(|e| content(key, &format!("does not go with {}: {e}", cert.display())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path, false)?).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(content(path, "holds no certificate; it must begin with -----BEGIN CERTIFICATE-----")),
    }
}

fn content(path: &Path, what: &str) -> OpenError {
    OpenError::Content { path: PathBuf::from(path), what: what.into() }
}
