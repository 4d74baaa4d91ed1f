//! Workers of which one leads: the others take over when it ends, is killed or cut off.
//!
//! ```sh
//! cargo run -p oxkeeper-recipes --example leader_election -- 127.0.0.1:2181 worker-1
//! ```
//! Start several with other names, and kill the one that leads. With a number as third argument a worker leads for
//! so many steps and then ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_recipes::{Error as RecipeError, Hold, LeaderLatch, SessionKeeper};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cluster = arguments.next().unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    let name = arguments
        .next()
        .unwrap_or_else(|| format!("worker-{}", std::process::id()));
    let steps: u32 = arguments.next().map_or(Ok(u32::MAX), |steps| steps.parse())?;

    // A worker outlives its sessions: the keeper gets a new one when one is lost, and the latch goes on with it.
    let keeper = SessionKeeper::connect(&cluster).await?;
    let latch = LeaderLatch::start(&keeper, "/election/workers", &name)?;
    loop {
        say(&name, "waiting for the leadership");
        match latch
            .run_while_leader(|leadership| lead(&name, leadership, steps))
            .await
        {
            Ok(()) => break,
            // Dropped in the middle, since somebody else may lead by now.
            Err(RecipeError::Revoked(reason)) => say(&name, &reason.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    latch.close().await?;
    say(&name, "gone");
    Ok(())
}

async fn lead(name: &str, leadership: Arc<Hold>, steps: u32) {
    say(
        name,
        &format!("leading, with fencing token {}", leadership.fencing_token()),
    );
    for step in 1..=steps {
        say(name, &format!("step {step} as the leader"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[allow(clippy::print_stdout, reason = "an example on a terminal")]
fn say(name: &str, what: &str) {
    println!("{name}: {what}");
}
