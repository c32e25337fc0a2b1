//! Finds or starts a real kube-apiserver, for suites that run against it too.
//!
//! IO: starts etcd and kube-apiserver from `KUBEBUILDER_ASSETS` on free loopback ports with their files in a temporary
//! directory, and ends both, by the handles it has on them, when the suite is over. A cluster of `KUBECONFIG` is only used:
//! a suite makes namespaces there and deletes them. So that `cargo test` does that to no production cluster, one that is
//! not on loopback is used only where `LEASEHOLD_REQUIRE_REAL=1` says that it is meant.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::client::{Client, JSON, Target};

const START_LIMIT: Duration = Duration::from_secs(90);

/// The operator's name and token.
const ADMIN: &str = "tests-admin";
const AUDIT_LOG: &str = "audit.log";
/// Who asked for what, without the bodies; once for each request.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

/// What went wrong, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A real server; dropping it ends what was started.
pub struct Real {
    /// With an operator's credentials.
    pub admin: Target,
    /// Without credentials.
    pub nobody: Target,
    programs: Option<Programs>,
}

impl Real {
    /// The API server's audit log: one JSON object for each finished request, and one for each watch that has begun. None
    /// for a cluster of `KUBECONFIG`.
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.programs.as_ref().map(|programs| programs.directory.join(AUDIT_LOG))
    }

    /// Kills the API server, lets something happen, and starts it again on the same data. A cluster of `KUBECONFIG` is
    /// left alone: `false`.
    ///
    /// # Errors
    ///
    /// It does not start again.
    pub fn restart(&mut self, meanwhile: impl FnOnce()) -> Result<bool, Failure> {
        let Some(programs) = &mut self.programs else { return Ok(false) };
        programs.end_last();
        meanwhile();
        programs.spawn("kube-apiserver")?;
        programs.wait_ready(&self.admin, "/readyz")?;
        Ok(true)
    }
}

/// The one that the environment offers. `Ok(None)`: none, which is a failure for who must have one
/// (`LEASEHOLD_REQUIRE_REAL=1`); a line that begins with `skipped:` says so.
///
/// # Errors
///
/// What is offered cannot be used; or nothing is offered and it is required.
pub fn find() -> Result<Option<Real>, Failure> {
    let required = std::env::var("LEASEHOLD_REQUIRE_REAL").is_ok_and(|value| value == "1");
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        let (programs, admin, nobody) = Programs::start(Path::new(&assets))?;
        return Ok(Some(Real { admin, nobody, programs: Some(programs) }));
    }
    let Some(path) = std::env::var_os("KUBECONFIG").map(PathBuf::from) else {
        if required {
            return Err("LEASEHOLD_REQUIRE_REAL=1, but neither KUBEBUILDER_ASSETS nor KUBECONFIG is set".into());
        }
        println!(
            "skipped: the real API server; set KUBEBUILDER_ASSETS (a directory with etcd and kube-apiserver) or KUBECONFIG"
        );
        return Ok(None);
    };
    let text = fs::read_to_string(&path).map_err(|error| format!("KUBECONFIG {}: {error}", path.display()))?;
    if !required && !is_on_loopback(kubeconfig_value(&text, "server")?) {
        println!("skipped: KUBECONFIG names a cluster elsewhere; LEASEHOLD_REQUIRE_REAL=1 would use it");
        return Ok(None);
    }
    let (admin, nobody) = read_kubeconfig(&text)?;
    Ok(Some(Real { admin, nobody, programs: None }))
}

fn is_on_loopback(url: &str) -> bool {
    ["https://127.", "https://localhost:", "https://[::1]:"].iter().any(|start| url.starts_with(start))
}

/// The first value of this key in a kubeconfig.
fn kubeconfig_value<'a>(text: &'a str, key: &str) -> Result<&'a str, Failure> {
    let line = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(':'));
    Ok(line.ok_or_else(|| format!("KUBECONFIG has no `{key}`"))?.trim().trim_matches('"'))
}

/// A kubeconfig of one cluster and one user with a client certificate, all data inside: what kind and test kits write.
fn read_kubeconfig(text: &str) -> Result<(Target, Target), Failure> {
    let value = |key: &str| kubeconfig_value(text, key);
    let pem = |key: &str| -> Result<String, Failure> { Ok(String::from_utf8(decode_base64(value(key)?)?)?) };
    let nobody = Target {
        url: value("server")?.trim_end_matches('/').to_owned(),
        ca_pem: pem("certificate-authority-data")?,
        ..Target::default()
    };
    let certificate = (pem("client-certificate-data")?, pem("client-key-data")?);
    Ok((Target { client_certificate: Some(certificate), ..nobody.clone() }, nobody))
}

fn decode_base64(text: &str) -> Result<Vec<u8>, Failure> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = ALPHABET.iter().position(|known| *known == letter).ok_or("KUBECONFIG has data that is no base64")?;
        bits = bits << 6 | u32::try_from(six)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff)?);
        }
    }
    Ok(bytes)
}

struct Programs {
    children: Vec<Child>,
    directory: PathBuf,
    /// How the newest of them is started.
    command: Command,
}

impl Programs {
    fn start(assets: &Path) -> Result<(Programs, Target, Target), Failure> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("leasehold-real-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let mut programs = Programs { children: Vec::new(), directory, command: Command::new(assets) };
        let etcd = programs.start_etcd(assets)?;
        let nobody = programs.start_apiserver(assets, &etcd)?;
        let admin = nobody.clone().with_token(ADMIN);
        programs.wait_ready(&admin, "/readyz")?;
        Ok((programs, admin, nobody))
    }

    fn start_etcd(&mut self, assets: &Path) -> Result<Target, Failure> {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
        let mut command = Command::new(assets.join("etcd"));
        command.args(["--name", "tests", "--data-dir"]).arg(self.directory.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("tests={peer}")]);
        self.command = command;
        self.spawn("etcd")?;
        let target = Target { url: client, ..Target::default() };
        self.wait_ready(&target, "/health")?;
        // Revisions from before the API server's start: a watch from there must be told that they are gone.
        for _ in 0..5 {
            let answer =
                Client::connect(&target)?.request("POST", "/v3/kv/put", JSON, br#"{"key":"eA==","value":"eA=="}"#)?;
            if answer.status != 200 {
                return Err(format!("etcd answered {} to a put", answer.status).into());
            }
        }
        Ok(target)
    }

    fn start_apiserver(&mut self, assets: &Path, etcd: &Target) -> Result<Target, Failure> {
        let port = free_port()?;
        let file = |name: &str| self.directory.join(name);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let serving = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
        fs::write(file("serving.crt"), serving.pem())?;
        fs::write(file("serving.key"), key.serialize_pem())?;
        let accounts = KeyPair::generate()?;
        fs::write(file("accounts.key"), accounts.serialize_pem())?;
        fs::write(file("accounts.pub"), accounts.public_key_pem())?;
        fs::write(file("tokens.csv"), format!("{ADMIN},{ADMIN},1,system:masters\n"))?;
        let mut command = Command::new(assets.join("kube-apiserver"));
        command.args(["--bind-address", "127.0.0.1", "--secure-port", &port.to_string(), "--etcd-servers", &etcd.url]);
        command.arg("--cert-dir").arg(&self.directory);
        command.arg("--tls-cert-file").arg(file("serving.crt")).arg("--tls-private-key-file").arg(file("serving.key"));
        command.arg("--token-auth-file").arg(file("tokens.csv"));
        command.args(["--service-account-issuer", "https://kubernetes.default.svc.cluster.local"]);
        command.arg("--service-account-key-file").arg(file("accounts.pub"));
        command.arg("--service-account-signing-key-file").arg(file("accounts.key"));
        fs::write(file("audit-policy.json"), AUDIT_POLICY)?;
        command.arg("--audit-policy-file").arg(file("audit-policy.json"));
        command.arg("--audit-log-path").arg(file(AUDIT_LOG));
        command.args(["--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC"]);
        // There are no controllers here: nothing would make the default ServiceAccounts that Pods need.
        command.args(["--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none"]);
        self.command = command;
        self.spawn("kube-apiserver")?;
        Ok(Target { url: format!("https://127.0.0.1:{port}"), ca_pem: authority.pem(), ..Target::default() })
    }

    fn spawn(&mut self, name: &str) -> Result<(), Failure> {
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        let command = self.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().map_err(|error| format!("{name} from KUBEBUILDER_ASSETS does not start: {error}"))?;
        self.children.push(child);
        Ok(())
    }

    fn end_last(&mut self) {
        if let Some(mut child) = self.children.pop() {
            let _ = child.kill(); // It may have ended by itself.
            let _ = child.wait();
        }
    }

    /// Asks until the answer is 200; the error shows the last lines of the newest program's log.
    fn wait_ready(&mut self, target: &Target, path: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        let ready =
            || Client::connect(target).and_then(|mut c| c.request("GET", path, "", b"")).is_ok_and(|a| a.status == 200);
        while !ready() {
            let ended = self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || begun.elapsed() > START_LIMIT {
                return Err(format!("{}{path} does not get ready: {}", target.url, self.last_log_lines()).into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn last_log_lines(&self) -> String {
        let name = if self.children.len() > 1 { "kube-apiserver.log" } else { "etcd.log" };
        let log = fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        while !self.children.is_empty() {
            self.end_last();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
