//! `cargo run -p headstart-xtask -- tidy`: rules of the tree that the compiler does not know.

mod arrows;
mod dependencies;
mod documented;
mod files;
mod locks;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let command = std::env::args().nth(1).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if command != "tidy" {
        let _ = writeln!(out, "usage: headstart-xtask tidy");
        return ExitCode::FAILURE;
    }
    let checks = [
        files::check(&root),
        arrows::check(&root),
        documented::check(&root),
        dependencies::check(&root),
        locks::check(&root),
    ];
    let mut broken = 0;
    for check in checks {
        match check {
            Ok(problems) => {
                broken += problems.len();
                for problem in problems {
                    let _ = writeln!(out, "{problem}");
                }
            }
            Err(error) => {
                broken += 1;
                let _ = writeln!(out, "{error:#}");
            }
        }
    }
    let _ = writeln!(out, "tidy: {broken} problems");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
