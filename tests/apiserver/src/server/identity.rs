//! The server's certificates: a CA of its own, and serving certificates that are right, or wrong in one way.
//!
//! PURE but for the randomness of keys.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Which certificate the server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// From the server's CA, for 127.0.0.1, ::1 and localhost.
    Valid,
    /// From the server's CA, for another host.
    WrongName,
    /// From a CA that is not trusted, for the right names.
    OtherAuthority,
    /// From the server's CA, for the right names, of years ago.
    Expired,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Result<Authority, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A configuration that shows a new certificate of this kind.
    pub(super) fn serve(&self, kind: Certificate) -> Result<Arc<ServerConfig>, Failure> {
        let names = match kind {
            Certificate::WrongName => vec!["elsewhere.example".to_owned()],
            _ => vec!["127.0.0.1".to_owned(), "::1".to_owned(), "localhost".to_owned()],
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "leasehold-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if kind == Certificate::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = match kind {
            Certificate::OtherAuthority => params.signed_by(&key, &Authority::new("another CA")?.issuer)?,
            _ => params.signed_by(&key, &self.issuer)?,
        };
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        configuration(certificate.der().clone(), private)
    }
}

/// A configuration that shows the last of these certificates, with the private key beside it.
pub(super) fn serve_pem(pem: &str) -> Result<Arc<ServerConfig>, Failure> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?;
    let last = certificates.into_iter().next_back().ok_or("no certificate")?;
    configuration(last, PrivateKeyDer::from_pem_slice(pem.as_bytes())?)
}

fn configuration(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, Failure> {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}
