//! The service account's files: token, CA certificates, namespace.
//!
//! IO: reads files. They are opened by path each time, because the kubelet rotates them by swapping a symbolic
//! link. What cannot be read any more leaves what was read before in force: a leader does not fall because a
//! volume is being remounted.

use std::fmt;
use std::io::Read;
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
/// No token, namespace or CA bundle is larger; what is, is the wrong file.
const FILE_LIMIT: u64 = 1 << 20;

/// A bearer token. Its `Debug` does not show it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The header that carries it.
    pub(crate) fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).expect("checked when it was read");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The certificates that an API server's must descend from.
pub struct Authorities {
    pem: Vec<u8>,
    certificates: usize,
    pub(crate) trust: Trust,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.certificates)
    }
}

/// What is wrong with one of the files, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub hint: &'static str,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path.display(), self.problem, self.hint)
    }
}

impl std::error::Error for CredentialsError {}

const TOKEN_HINT: &str = "it must hold the service account's token: is automountServiceAccountToken on, and \
                          SERVICE_ACCOUNT_DIR right?";
const CA_HINT: &str = "it must hold the cluster's CA certificates in PEM: is automountServiceAccountToken on, and \
                       SERVICE_ACCOUNT_DIR right?";
const NAMESPACE_HINT: &str = "it must hold the Pod's namespace; or set LEASE_NAMESPACE";

/// The service account, as its files last said.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
    state: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    token: Token,
    authorities: Arc<Authorities>,
    read_at: Instant,
    /// Of each file: whether the last reading failed and was reported.
    token_errors: ReadErrors,
    ca_errors: ReadErrors,
}

impl Credentials {
    /// Reads token and CA from a service account's directory.
    pub fn open(directory: impl AsRef<Path>) -> Result<Credentials, CredentialsError> {
        let directory = directory.as_ref().to_owned();
        let state = Loaded {
            token: read_token(&directory)?,
            authorities: Arc::new(read_authorities(&directory)?),
            read_at: Instant::now(),
            token_errors: ReadErrors::default(),
            ca_errors: ReadErrors::default(),
        };
        Ok(Credentials { directory, state: Mutex::new(state) })
    }

    /// The namespace that the service account is in.
    pub fn read_namespace(directory: impl AsRef<Path>) -> Result<String, CredentialsError> {
        let path = directory.as_ref().join("namespace");
        let text = read_text(&path, NAMESPACE_HINT)?;
        match text.trim() {
            "" => Err(CredentialsError { path, problem: "is empty".to_owned(), hint: NAMESPACE_HINT }),
            namespace => Ok(namespace.to_owned()),
        }
    }

    /// The token and the CA in force, read again if that was too long ago.
    pub(crate) fn current(&self) -> (Token, Arc<Authorities>) {
        let mut state = self.lock();
        if state.read_at.elapsed() >= REREAD_AFTER {
            state.reread(&self.directory);
        }
        (state.token.clone(), Arc::clone(&state.authorities))
    }

    /// Reads the files again now: the server has just refused the token.
    pub fn refresh(&self) {
        self.lock().reread(&self.directory);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        sys::lock(&self.state)
    }
}

impl Loaded {
    fn reread(&mut self, directory: &Path) {
        self.read_at = Instant::now();
        if let Some(token) = self.token_errors.unless(read_token(directory)) {
            self.token = token;
        }
        if let Some(authorities) = self.ca_errors.unless(read_authorities(directory)) {
            // By content: a new CA costs every client its connection.
            if authorities.pem != self.authorities.pem {
                log::info!("the API server's CA has changed: {} certificates now", authorities.certificates);
                self.authorities = Arc::new(authorities);
            }
        }
    }
}

/// Says once that a file is bad, and once that it is good again.
#[derive(Debug, Default)]
struct ReadErrors(bool);

impl ReadErrors {
    fn unless<T>(&mut self, read: Result<T, CredentialsError>) -> Option<T> {
        match read {
            Ok(value) => {
                if std::mem::take(&mut self.0) {
                    log::info!("the service account's file can be read again");
                }
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.0, true) {
                    log::warn!("{error} (what was read before stays in force)");
                }
                None
            }
        }
    }
}

fn read_token(directory: &Path) -> Result<Token, CredentialsError> {
    let path = directory.join("token");
    let text = read_text(&path, TOKEN_HINT)?;
    let token = text.trim();
    let problem = if token.is_empty() {
        "is empty"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "holds characters that no token has"
    } else if token.len() > TOKEN_LIMIT {
        "is longer than any service account's token"
    } else {
        return Ok(Token(token.to_owned()));
    };
    Err(CredentialsError { path, problem: problem.to_owned(), hint: TOKEN_HINT })
}

fn read_authorities(directory: &Path) -> Result<Authorities, CredentialsError> {
    let path = directory.join("ca.crt");
    let pem = read_text(&path, CA_HINT)?.into_bytes();
    match certificates(&pem) {
        Ok(certificates) => {
            Ok(Authorities { pem, certificates: certificates.len(), trust: Trust::in_only(&certificates) })
        }
        Err(problem) => Err(CredentialsError { path, problem, hint: CA_HINT }),
    }
}

/// ureq would pass over in silence what it cannot parse, and then trust no one without saying why. A bundle may hold
/// one certificate too odd for us, but not only such.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let (mut good, mut bad) = (Vec::new(), None);
    for (index, item) in parse_pem(pem).enumerate() {
        let number = index + 1;
        match item {
            Ok(PemItem::Certificate(certificate)) => {
                let der = CertificateDer::from(certificate.der().to_vec());
                match RootCertStore::empty().add(der) {
                    Ok(()) => good.push(certificate),
                    Err(error) => bad = Some(format!("its certificate number {number} is no CA certificate: {error}")),
                }
            }
            Ok(_) => {}
            Err(error) => bad = Some(format!("its PEM item number {number} is damaged: {error}")),
        }
    }
    match bad {
        Some(problem) if good.is_empty() => Err(problem),
        Some(problem) => {
            log::debug!("a CA is passed over: {problem}");
            Ok(good)
        }
        None if good.is_empty() => Err("holds no certificate".to_owned()),
        None => Ok(good),
    }
}

fn read_text(path: &Path, hint: &'static str) -> Result<String, CredentialsError> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text));
    let problem = match read {
        Ok(length) if length as u64 <= FILE_LIMIT => return Ok(text),
        Ok(_) => "is far too large".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(CredentialsError { path: path.to_owned(), problem, hint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
            for file in ["token", "ca.crt", "namespace"] {
                symlink(Path::new("..data").join(file), mount.0.join(file)).unwrap();
            }
            mount
        }

        fn rotate(&self, version: &str, token: &str, ca: &str) {
            let directory = self.0.join(version);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("token"), token).unwrap();
            fs::write(directory.join("ca.crt"), ca).unwrap();
            fs::write(directory.join("namespace"), "team-a\n").unwrap();
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
        credentials.current().0.authorization().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_files_are_read_and_trimmed() {
        let mount = Mount::new("read", " abc.def-123\n", CA);
        let credentials = mount.open().unwrap();
        assert_eq!(header(&credentials), "Bearer abc.def-123");
        assert_eq!(credentials.current().1.certificates, 1);
        assert_eq!(Credentials::read_namespace(&mount.0).unwrap(), "team-a");
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
        credentials.lock().read_at = long_ago;
        assert_eq!(header(&credentials), "Bearer two");
    }

    #[test]
    fn a_changed_ca_is_taken_over() {
        let mount = Mount::new("ca", "one", CA);
        let credentials = mount.open().unwrap();
        mount.rotate("..2", "one", &format!("{CA}{CA}"));
        credentials.refresh();
        assert_eq!(credentials.current().1.certificates, 2);
    }

    #[test]
    fn what_cannot_be_read_any_more_leaves_the_old_in_force() {
        let mount = Mount::new("keep", "one", CA);
        let credentials = mount.open().unwrap();
        for (version, token, ca) in [("..2", "", ""), ("..3", "a b", "garbage"), ("..4", " \n", CA)] {
            mount.rotate(version, token, ca);
            credentials.refresh();
            assert_eq!(header(&credentials), "Bearer one");
            assert_eq!(credentials.current().1.certificates, 1);
        }
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
        let error = Credentials::read_namespace("/nowhere").unwrap_err();
        assert!(error.to_string().contains("or set LEASE_NAMESPACE"), "{error}");
    }

    #[test]
    fn one_odd_certificate_in_a_bundle_is_passed_over() {
        let damaged = CA.replace("MIIB", "AAAA");
        let mount = Mount::new("bundle", "t", &format!("{damaged}\n{CA}"));
        assert_eq!(mount.open().unwrap().current().1.certificates, 1);
    }

    #[test]
    fn a_token_is_never_shown() {
        let mount = Mount::new("debug", "secret", CA);
        let credentials = mount.open().unwrap();
        let (token, authorities) = credentials.current();
        let shown = format!("{credentials:?} {token:?} {authorities:?} {:?}", token.authorization());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
