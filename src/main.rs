//! The `rescind` command.

fn main() -> std::process::ExitCode {
    rescind::cli::main()
}
