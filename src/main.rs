//! The `leasehold` program. IO: what [`leasehold::program`] does.

fn main() -> std::process::ExitCode {
    leasehold::program::main()
}
