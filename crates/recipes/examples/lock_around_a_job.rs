//! A job that runs in one place at a time, however many processes want to run it.
//!
//! ```sh
//! cargo run -p oxkeeper-recipes --example lock_around_a_job -- 127.0.0.1:2181
//! ```
//! Start it twice: the second waits for the first. Kill the first, or cut it off: the second goes on.

use std::error::Error;
use std::time::Duration;

use oxkeeper_recipes::{InterProcessMutex, SessionKeeper};
use zookeeper_client::{Acls, CreateMode, Error as ClientError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    let keeper = SessionKeeper::connect(&cluster).await?;
    let session = keeper.session();

    // Where the job leaves what it worked out.
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match session.client().create("/report", b"", &options).await {
        Ok(_) | Err(ClientError::NodeExists) => {}
        Err(error) => return Err(error.into()),
    }

    let mut mutex = InterProcessMutex::new(&session, "/locks/report")?;
    say("waiting for the lock");
    let guard = mutex.acquire().await?;
    say(&format!(
        "holding it, with fencing token {}",
        guard.fencing_token()
    ));

    // When the connection is suspended or the session lost, the job is dropped where it stands.
    let report = guard.run(job()).await?;
    // Even if this process was asleep since: the servers write only while the lock is held.
    guard
        .write(|transaction| transaction.add_set_data("/report", report.as_bytes(), None))
        .await?;
    guard.release().await?;
    say("done");
    Ok(())
}

async fn job() -> String {
    for step in 1..=5 {
        say(&format!("step {step} of 5"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    "all is well".to_owned()
}

#[allow(clippy::print_stdout, reason = "an example on a terminal")]
fn say(what: &str) {
    println!("{}: {what}", std::process::id());
}
