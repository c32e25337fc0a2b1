//! A stand-in for the main container: answers 200 or 503.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

pub(crate) struct Workload {
    port: u16,
    healthy: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Workload {
    pub(crate) fn new(healthy: bool) -> Workload {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let workload = Workload { port, healthy: Arc::new(AtomicBool::new(healthy)), asked: Arc::default() };
        let (healthy, asked) = (Arc::clone(&workload.healthy), Arc::clone(&workload.asked));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let status = if healthy.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                // Whoever hangs up does not want to know.
                let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(answer.as_bytes()));
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        workload
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/healthz", self.port)
    }

    pub(crate) fn set(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    /// How often it has answered.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}
