//! A TLS error in words that say which algorithm is not supported: Go accepts some that this program does not.
//!
//! PURE: an error in, text out.

use rustls::{AlertDescription, CertificateError, Error};

const SUPPORTED: &str = "supported are ECDSA with SHA-256 or SHA-384 on P-256 or P-384, Ed25519, and RSA with SHA-2";

/// Object identifiers (DER, without tag and length) and their names. What comes around them in a certificate (a tag, a
/// length, parameters) does not matter.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "ECDSA with SHA-1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x01], "ECDSA with SHA-224"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], "ECDSA with SHA-256"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], "ECDSA with SHA-384"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], "ECDSA with SHA-512"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "RSA with SHA-1"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], "RSA-PSS"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "P-256"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], "P-384"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "P-521"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
];

/// What the error means, where its own words do not name the algorithm.
pub(crate) fn explain(error: &Error) -> Option<String> {
    let signed_by = match error {
        Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: signature,
            ..
        }) => name(signature),
        Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature,
            public_key_algorithm_id: key,
        }) => format!("{} with a key on {}", name(signature), name(key)),
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            return Some(format!("{error}: is the server's key on P-521? {SUPPORTED}"));
        }
        _ => return None,
    };
    Some(format!("a certificate is signed by {signed_by}, which is not supported: {SUPPORTED}"))
}

fn name(identifier: &[u8]) -> String {
    let known = NAMES.iter().find(|(known, _)| identifier.windows(known.len()).any(|part| part == *known));
    known.map_or_else(|| format!("an algorithm of identifier {identifier:02x?}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_named_where_the_error_knows_it() {
        let error = Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
            public_key_algorithm_id: vec![0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        });
        let text = explain(&error).unwrap();
        assert!(text.contains("signed by ECDSA with SHA-256 with a key on P-521, which is not supported"), "{text}");
        let text = explain(&Error::AlertReceived(AlertDescription::HandshakeFailure)).unwrap();
        assert!(text.contains("P-521"), "{text}");
        assert_eq!(explain(&Error::DecryptError), None);
        assert_eq!(name(&[1, 2]), "an algorithm of identifier [01, 02]");
        // As webpki hands it over: RSA's identifier is followed by parameters, a NULL.
        let rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 5, 0];
        assert_eq!(name(&rsa), "RSA with SHA-1");
    }
}
