//! The service account's files: token and CA certificates.
//!
//! IO: reads files. They are opened by path each time, because the kubelet rotates them by swapping a symbolic
//! link. What cannot be read any more leaves what was read before in force: a leader does not fall because a
//! volume is being remounted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::kube::connection::{TOKEN_LIMIT, Trust};
use crate::sys;

/// The kubelet renews a token when four fifths of its life are over: even of the shortest life (ten minutes) two
/// remain. client-go looks each minute.
const REREAD_AFTER: Duration = Duration::from_secs(40);

/// What is wrong with one of the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, problem) = (self.path.display(), &self.problem);
        write!(f, "{path}: {problem}; is automountServiceAccountToken on, and SERVICE_ACCOUNT_DIR right?")
    }
}

impl std::error::Error for CredentialsError {}

/// The service account, as its files last said.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
    state: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// The header that carries the token. Its `Debug` does not show it.
    token: HeaderValue,
    trust: Arc<Trust>,
    read_at: Instant,
    /// What the last reading failed at, and was reported.
    error: Option<CredentialsError>,
}

impl Credentials {
    /// Reads token and CA from a service account's directory.
    pub fn open(directory: impl AsRef<Path>) -> Result<Credentials, CredentialsError> {
        let directory = directory.as_ref().to_owned();
        let (token, trust) = (read_token(&directory)?, Arc::new(read_trust(&directory)?));
        let state = Mutex::new(Loaded { token, trust, read_at: Instant::now(), error: None });
        Ok(Credentials { directory, state })
    }

    /// The token's header and the CA in force, read again if that was too long ago.
    pub(crate) fn current(&self) -> (HeaderValue, Arc<Trust>) {
        let mut state = sys::lock(&self.state);
        if state.read_at.elapsed() >= REREAD_AFTER {
            state.reread(&self.directory);
        }
        (state.token.clone(), Arc::clone(&state.trust))
    }

    /// Reads the files again now: the server has just refused the token, or is not trusted. Whether the CA has changed.
    pub fn refresh(&self) -> bool {
        sys::lock(&self.state).reread(&self.directory)
    }
}

impl Loaded {
    /// Takes over what can be read, and logs a failure once. Whether the CA has changed.
    fn reread(&mut self, directory: &Path) -> bool {
        self.read_at = Instant::now();
        let (token, trust) = (read_token(directory), read_trust(directory));
        let error = token.as_ref().err().or(trust.as_ref().err()).cloned();
        match &error {
            None if self.error.is_some() => log::info!("the service account's files can be read again"),
            Some(error) if self.error.as_ref() != Some(error) => {
                log::warn!("{error} (what was read before stays in force)");
            }
            _ => {}
        }
        self.error = error;
        if let Ok(token) = token {
            self.token = token;
        }
        // By content: a new CA costs every client its connection.
        let Some(trust) = trust.ok().filter(|trust| trust.pem != self.trust.pem) else { return false };
        log::info!("the API server's CA has changed");
        self.trust = Arc::new(trust);
        true
    }
}

fn read_token(directory: &Path) -> Result<HeaderValue, CredentialsError> {
    let path = directory.join("token");
    let text = read_text(&path)?;
    let token = text.trim();
    let problem = if token.is_empty() {
        "is empty"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "holds characters that no token has"
    } else if token.len() > TOKEN_LIMIT {
        "is longer than any service account's token"
    } else {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).expect("its characters were just checked");
        header.set_sensitive(true);
        return Ok(header);
    };
    Err(CredentialsError { path, problem: problem.to_owned() })
}

fn read_trust(directory: &Path) -> Result<Trust, CredentialsError> {
    let path = directory.join("ca.crt");
    let pem = read_text(&path)?;
    match certificates(pem.as_bytes()) {
        Ok(certificates) => Ok(Trust::in_only(pem, &certificates)),
        Err(problem) => Err(CredentialsError { path, problem }),
    }
}

/// ureq would pass over in silence what it cannot parse, and then trust no one without saying why. A bundle may hold
/// one certificate too odd for us, but not only such.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let (mut good, mut problem) = (Vec::new(), "holds no certificate".to_owned());
    for (number, item) in (1..).zip(parse_pem(pem)) {
        match item {
            Ok(PemItem::Certificate(certificate)) => {
                match RootCertStore::empty().add(CertificateDer::from(certificate.der())) {
                    Ok(()) => good.push(certificate),
                    Err(error) => problem = format!("its certificate number {number} is no CA certificate: {error}"),
                }
            }
            Ok(_) => {}
            Err(error) => problem = format!("its PEM item number {number} is damaged: {error}"),
        }
    }
    if good.is_empty() { Err(problem) } else { Ok(good) }
}

fn read_text(path: &Path) -> Result<String, CredentialsError> {
    let error = |error| CredentialsError { path: path.to_owned(), problem: format!("cannot be read: {error}") };
    fs::read_to_string(path).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const CA: &str = include_str!("../../tests/data/ca.crt");

    /// A directory as the kubelet makes it: the files are links into `..data`, itself a link that is swapped.
    struct Mount(PathBuf);

    impl Mount {
        fn new(test: &str, token: &str, ca: &str) -> Mount {
            let path = std::env::temp_dir().join(format!("leasehold-credentials-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            let mount = Mount(path);
            mount.rotate("..1", token, ca);
            for file in ["token", "ca.crt"] {
                symlink(Path::new("..data").join(file), mount.0.join(file)).unwrap();
            }
            mount
        }

        fn rotate(&self, version: &str, token: &str, ca: &str) {
            let directory = self.0.join(version);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("token"), token).unwrap();
            fs::write(directory.join("ca.crt"), ca).unwrap();
            symlink(version, self.0.join("..new")).unwrap();
            fs::rename(self.0.join("..new"), self.0.join("..data")).unwrap();
        }

        fn open(&self) -> Result<Credentials, CredentialsError> {
            Credentials::open(&self.0)
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn header(credentials: &Credentials) -> String {
        credentials.current().0.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_files_are_read_and_trimmed() {
        let mount = Mount::new("read", " abc.def-123\n", CA);
        let credentials = mount.open().unwrap();
        assert_eq!(header(&credentials), "Bearer abc.def-123");
        assert_eq!(credentials.current().1.pem, CA);
    }

    #[test]
    fn a_rotated_token_is_read_at_the_next_refresh() {
        let mount = Mount::new("rotate", "one", CA);
        let credentials = mount.open().unwrap();
        mount.rotate("..2", "two", CA);
        assert_eq!(header(&credentials), "Bearer one", "not read again for every call");
        let before = credentials.current().1;
        credentials.refresh();
        assert_eq!(header(&credentials), "Bearer two");
        assert!(Arc::ptr_eq(&before, &credentials.current().1), "the same CA, so the same connections");
    }

    #[test]
    fn files_are_read_again_after_a_while_without_being_asked() {
        let mount = Mount::new("while", "one", CA);
        let credentials = mount.open().unwrap();
        mount.rotate("..2", "two", CA);
        let Some(long_ago) = Instant::now().checked_sub(REREAD_AFTER) else { return };
        sys::lock(&credentials.state).read_at = long_ago;
        assert_eq!(header(&credentials), "Bearer two");
    }

    #[test]
    fn a_changed_ca_is_taken_over() {
        let mount = Mount::new("ca", "one", CA);
        let credentials = mount.open().unwrap();
        mount.rotate("..2", "one", &format!("{CA}{CA}"));
        assert!(credentials.refresh());
        assert_eq!(credentials.current().1.pem, format!("{CA}{CA}"));
        assert!(!credentials.refresh());
    }

    #[test]
    fn what_cannot_be_read_any_more_leaves_the_old_in_force() {
        let mount = Mount::new("keep", "one", CA);
        let credentials = mount.open().unwrap();
        for (version, token, ca) in [("..2", "", ""), ("..3", "a b", "garbage"), ("..4", " \n", CA)] {
            mount.rotate(version, token, ca);
            credentials.refresh();
            assert_eq!(header(&credentials), "Bearer one");
            assert_eq!(credentials.current().1.pem, CA);
        }
        mount.rotate("..5", "two", "garbage");
        credentials.refresh();
        assert_eq!(header(&credentials), "Bearer two", "a CA that is damaged holds up no token");
        mount.rotate("..6", "one", CA);
        credentials.refresh();
        fs::remove_file(mount.0.join("token")).unwrap();
        credentials.refresh();
        assert_eq!(header(&credentials), "Bearer one");
    }

    #[test]
    fn bad_files_are_named_with_what_is_wrong_and_what_would_be_right() {
        let damaged = CA.replace("MIIB", "AAAA");
        let truncated = &CA[..CA.len() / 2];
        let table = [
            ("", CA, "token", "is empty"),
            ("a\0b", CA, "token", "characters that no token has"),
            ("a\nb", CA, "token", "characters that no token has"),
            ("t\u{f6}ken", CA, "token", "characters that no token has"),
            (&"t".repeat(TOKEN_LIMIT + 1), CA, "token", "longer than any"),
            ("t", "", "ca.crt", "holds no certificate"),
            ("t", "garbage", "ca.crt", "holds no certificate"),
            ("t", &damaged, "ca.crt", "certificate number 1 is no CA certificate"),
            ("t", truncated, "ca.crt", "damaged"),
        ];
        for (number, (token, ca, file, problem)) in table.iter().enumerate() {
            let error = Mount::new(&format!("bad-{number}"), token, ca).open().unwrap_err();
            assert!(error.path.ends_with(file) && error.problem.contains(problem), "{number}: {error}");
            assert!(error.to_string().contains("SERVICE_ACCOUNT_DIR"), "{error}");
            assert!(!error.to_string().contains("a\0b"), "no token in an error");
        }
        let error = Credentials::open("/nowhere").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/token: cannot be read: No such file"), "{error}");
    }

    #[test]
    fn one_odd_certificate_in_a_bundle_is_passed_over() {
        let damaged = CA.replace("MIIB", "AAAA");
        let bundle = format!("{damaged}\n{CA}");
        Mount::new("bundle", "t", &bundle).open().unwrap();
        assert_eq!(certificates(bundle.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_token_is_never_shown() {
        let mount = Mount::new("debug", "secret", CA);
        let credentials = mount.open().unwrap();
        let shown = format!("{credentials:?} {:?}", credentials.current());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
