//! The log: env_logger, in two forms, and standard error, which may have nobody who reads it.
//!
//! IO: writes to standard error. Nothing below `debug` ever comes out, whatever RUST_LOG says: ureq's `trace` shows
//! whole requests, and with them the bearer token.
//!
//! A reader that does not read delays nothing: lines that standard error does not take are dropped and counted.

use std::io::{self, Write};
use std::os::fd::AsFd;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use serde_json::json;

use crate::kube::status::one_line;
use crate::program::config::{LogConfig, LogFormat};
use crate::sys;
use crate::sys::line_writer::DroppingWriter;

/// Starts logging, once a process.
pub fn start(config: &LogConfig) {
    let format = config.format;
    let mut builder = Builder::new();
    // tiny_http logs an error each time it is stopped; what matters is logged by `http`. RUST_LOG can turn it on again.
    builder.filter_module("tiny_http", LevelFilter::Off).parse_filters(&config.filter);
    builder
        .format(move |out, record| out.write_all(line(format, record.level(), &record.args().to_string()).as_bytes()));
    // Without a descriptor to spare (none is open yet) the log may wait for its reader.
    if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
        let writer = DroppingWriter::new(stderr, move |dropped| dropped_line(format, dropped));
        builder.target(Target::Pipe(Box::new(writer)));
    }
    // A logger that is there already is the caller's; then this one is not needed.
    if builder.try_init().is_ok() {
        log::set_max_level(log::max_level().min(LevelFilter::Debug));
    }
}

fn line(format: LogFormat, level: Level, message: &str) -> String {
    let time = sys::now().wall.to_string();
    match format {
        LogFormat::Text => format!("{time} {level:5} {}\n", one_line(message.chars())),
        LogFormat::Json => format!("{}\n", json!({ "time": time, "level": level.as_str(), "message": message })),
    }
}

fn dropped_line(format: LogFormat, dropped: u64) -> String {
    line(format, Level::Warn, &format!("dropped {dropped} log lines: standard error is blocked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_reported_in_the_form_of_the_log() {
        let text = dropped_line(LogFormat::Text, 10);
        assert!(text.ends_with(" WARN  dropped 10 log lines: standard error is blocked\n"), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&dropped_line(LogFormat::Json, 1)).unwrap();
        assert_eq!(parsed["message"], "dropped 1 log lines: standard error is blocked");
        assert_eq!(parsed["level"], "WARN");
    }

    #[test]
    fn what_comes_from_outside_begins_no_line() {
        let text = line(LogFormat::Text, Level::Info, "a\nb\u{1b}[2J");
        assert!(text.ends_with(" INFO  a b\\u{1b}[2J\n"), "{text}");
    }
}
