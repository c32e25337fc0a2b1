//! The log: env_logger, in two forms.
//!
//! IO: writes to standard error. Nothing below `debug` ever comes out, whatever RUST_LOG says: ureq's `trace` shows
//! whole requests, and with them the bearer token.

use std::io::Write;

use env_logger::Builder;
use log::{LevelFilter, Record};
use serde_json::json;

use crate::config::LogFormat;
use crate::sys;

/// Starts logging, once a process.
pub fn start(filter: &str, format: LogFormat) {
    let mut builder = Builder::new();
    // tiny_http reports an error each time that it is stopped; what matters of it the door says. RUST_LOG can undo it.
    builder.filter_module("tiny_http", LevelFilter::Off).parse_filters(filter);
    builder.format(move |out, record| match format {
        LogFormat::Text => {
            let line = single_line(record);
            writeln!(out, "{} {:5} {line}", sys::now().wall, record.level())
        }
        LogFormat::Json => {
            let message = record.args().to_string();
            let line =
                json!({ "time": sys::now().wall.to_string(), "level": record.level().as_str(), "message": message });
            writeln!(out, "{line}")
        }
    });
    // A logger that is there already is the caller's; then this one is not needed.
    if builder.try_init().is_ok() {
        log::set_max_level(log::max_level().min(LevelFilter::Debug));
    }
}

/// What comes from outside cannot begin a line of its own, nor move a terminal's cursor.
fn single_line(record: &Record<'_>) -> String {
    let text = record.args().to_string();
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text
    }
}
