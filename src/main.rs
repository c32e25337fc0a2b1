//! The `leasehold` program: arguments and environment → configuration → run → exit code.
//!
//! IO: reads the environment and, for a default, the service account's namespace file.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use leasehold::config::{self, Config, Invocation};
use leasehold::program::{self, cli, install, log};
use leasehold::sys::{self, Signals};

/// glibc's own keeps what was freed in a cache for each of a dozen threads: some 100 KB that this one does without.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The configuration is wrong: nothing was tried.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    sys::share_one_heap();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match config::parse(&arguments, &|name| env::var_os(name), &namespace_file) {
        Ok(Invocation::Run(config)) => take_part(&config),
        Ok(Invocation::Status(config)) => {
            log::start(&config.access.log_filter, config.access.log_format);
            finish(cli::status(&config))
        }
        Ok(Invocation::Yield(config)) => {
            log::start(&config.access.log_filter, config.access.log_format);
            finish(cli::hand_over(&config))
        }
        Ok(Invocation::Install(folder)) => finish(install::install(&folder)),
        Ok(Invocation::Help) => {
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            println!("leasehold {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprintln!("leasehold: the configuration is wrong:\n{mistakes}");
            ExitCode::from(MISCONFIGURED)
        }
    }
}

/// Signals are blocked before anything is started, and here alone: `status --watch` ends at Ctrl-C as any program does.
fn take_part(config: &Config) -> ExitCode {
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("leasehold: signals cannot be blocked: {error}");
            return ExitCode::FAILURE;
        }
    };
    log::start(&config.access.log_filter, config.access.log_format);
    warn_of_misspelt_variables();
    program::run(config, signals)
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("leasehold: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn namespace_file(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn warn_of_misspelt_variables() {
    let names: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    for (found, meant) in config::misspelt(names.iter().map(String::as_str)) {
        ::log::warn!("the variable {found} is not known; is {meant} meant?");
    }
}
