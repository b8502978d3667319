//! Runs the traceql cases. See the crate's front page.

fn main() -> std::process::ExitCode {
    corpus::Report::new("traceql").finish()
}
