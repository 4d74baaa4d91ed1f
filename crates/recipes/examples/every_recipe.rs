//! Plays every recipe, all at once, at a server that is killed and started again in their midst; `interop/recipes`
//! has it play at Java's. The plays, and what they check, are those of `tests/every_recipe.rs`.
//!
//! ```sh
//! every_recipe CLUSTER REQUESTS ANSWERS   # asks for the restart by a line, and reads a line when it is done
//! ```

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../tests/plays/mod.rs"]
mod plays;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::thread;

use plays::{Mark, RECIPES, Reached, Stage, play};
use tokio::sync::mpsc;

#[allow(clippy::print_stdout, reason = "it says what was played")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cluster, requests, answers] = arguments.as_slice() else {
        panic!("CLUSTER REQUESTS ANSWERS");
    };
    let requests = File::options().append(true).open(requests).unwrap();
    let answers = BufReader::new(File::open(answers).unwrap());
    let (marks, reached) = mpsc::unbounded_channel();
    thread::scope(|scope| {
        scope.spawn(|| at_marks(reached, requests, answers));
        for recipe in RECIPES {
            let marks = marks.clone();
            // Threads have names, which a panic tells.
            let playing = thread::Builder::new().name(recipe.to_owned());
            let playing = playing.spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let stage = Stage::new(cluster, recipe, marks).await;
                    play(recipe, &stage).await;
                });
            });
            playing.unwrap();
        }
        drop(marks);
    });
    println!("{} recipes outlive a restart of their server", RECIPES.len());
}

/// Has the server restarted once all are where it is to happen.
fn at_marks(mut reached: mpsc::UnboundedReceiver<Reached>, mut requests: File, mut answers: BufReader<File>) {
    let mut waiting = Vec::new();
    while let Some(Reached { mark, go_on }) = reached.blocking_recv() {
        waiting.push(go_on);
        if mark == Mark::LeaderDies {
            if waiting.len() < RECIPES.len() {
                continue;
            }
            writeln!(requests, "restart").unwrap();
            let mut answer = String::new();
            answers.read_line(&mut answer).unwrap();
            assert_eq!(answer, "restart\n");
        }
        for go_on in waiting.drain(..) {
            // A play that has failed waits no more.
            let _ = go_on.send(());
        }
    }
}
