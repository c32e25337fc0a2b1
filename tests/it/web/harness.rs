//! A served view whose answers a test decides, and a client that reads HTTP strictly.

use leasehold::program::http::{HttpLimits, HttpServer, serve};
use leasehold::program::metrics::Metrics;
use leasehold::program::state::StateView;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Ends a hang; decides nothing.
pub(super) const HANG: Duration = Duration::from_secs(600);

/// Limits that nothing in a test meets by accident, however slow the machine is.
pub(super) const PATIENT: HttpLimits = HttpLimits { connections: 32, time: HANG };

/// Runs whenever the view is asked for.
type Hook = Box<dyn Fn() + Send>;

pub(super) struct Served {
    pub(super) web: Option<HttpServer>,
    pub(super) address: SocketAddr,
    pub(super) view: Arc<Mutex<StateView>>,
}

pub(super) fn served(limits: HttpLimits) -> Served {
    served_with(limits, Box::new(|| {}))
}

pub(super) fn served_with(limits: HttpLimits, hook: Hook) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let view = StateView { lease: "ns/demo".into(), pod: "pod-a".into(), ready: true, ..StateView::default() };
    let view = Arc::new(Mutex::new(view));
    let shown = Arc::clone(&view);
    let look = move || {
        hook();
        shown.lock().unwrap().clone()
    };
    let web = serve(limits, listener, Arc::new(Metrics::new("demo")), Box::new(look)).unwrap();
    Served { web: Some(web), address, view }
}

impl Served {
    pub(super) fn connect(&self) -> Connection {
        Connection::to(self.address).unwrap()
    }

    /// One request on a connection of its own.
    pub(super) fn get(&self, path: &str) -> Answer {
        self.connect().get(path).unwrap()
    }

    /// A metric of the HTTP side.
    pub(super) fn metric(&self, sample: &str) -> f64 {
        metric(&self.get("/metrics").text(), sample)
    }

    /// Returns once at least `count` was counted for `sample`. A question that meets a test's short limits is repeated.
    pub(super) fn await_metric(&self, sample: &str, count: f64) {
        let begun = std::time::Instant::now();
        while !self.connect().get("/metrics").is_ok_and(|answer| metric(&answer.text(), sample) >= count) {
            assert!(begun.elapsed() < HANG, "{sample} never reached {count}");
            std::thread::yield_now();
        }
    }

    pub(super) fn stop(&mut self) {
        self.web.take().unwrap().stop();
    }
}

pub(super) fn metric(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is not in\n{text}")).parse().unwrap()
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} occurs twice");
        value
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A client's connection.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    pub(super) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, "")
    }

    pub(super) fn request(&mut self, method: &str, path: &str, fields: &str) -> io::Result<Answer> {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))?;
        self.answer(method != "HEAD")
    }

    /// Reads one answer.
    pub(super) fn answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let status_line = self.line()?;
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| invalid(&status_line))?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| invalid(&line))?;
            fields.push((name.to_owned(), value.to_owned()));
        }
        let mut answer = Answer { status, fields, body: Vec::new() };
        assert_eq!(answer.field("Connection"), Some("close"));
        let length = answer.field("Content-Length").and_then(|length| length.parse().ok());
        let length: usize = length.ok_or_else(|| invalid("no Content-Length"))?;
        if has_body {
            answer.body = vec![0; length];
            self.reader.read_exact(&mut answer.body)?;
        }
        // Whatever the client has sent: one answer, and no byte after it.
        if self.reader.read(&mut [0])? != 0 { Err(invalid("more than one answer")) } else { Ok(answer) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Whether the server has closed it already.
    pub(super) fn has_been_closed(&self) -> bool {
        self.stream().set_nonblocking(true).unwrap();
        let gone = !matches!(self.stream().peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream().set_nonblocking(false).unwrap();
        gone
    }

    /// Whether the server closes, without another byte.
    pub(super) fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
