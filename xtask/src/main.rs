//! Repository chores, run as `cargo xtask <chore>`. Each is also a test, so that `cargo test` runs it.

mod floors;
mod links;

use std::process::ExitCode;

fn main() -> ExitCode {
    let chore = std::env::args().nth(1);
    let found = match chore.as_deref() {
        Some("floors") => floors::check(),
        Some("links") => links::check(),
        _ => Err(vec!["usage: cargo xtask floors | links".to_owned()]),
    };
    match found {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
