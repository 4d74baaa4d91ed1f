//! A contender for locks and elections that checks that it is alone; `interop/recipes` lets it contend with Curator
//! and kazoo.
//!
//! ```sh
//! contender CLUSTER NAME hold PATH                     # takes the mutex, says `held`, keeps it until it is `asked`
//! contender CLUSTER NAME revoke PATH                   # asks the holder to let go
//! contender CLUSTER NAME play ROUNDS KIND=PATH=PEERS…  # so many rounds of each kind, with so many contenders each
//! ```

use std::error::Error;
use std::time::Duration;

use oxkeeper_recipes::{
    InterProcessMutex, InterProcessReadWriteLock, InterProcessSemaphore, InterProcessSemaphoreMutex,
    LeaderLatch, LeaderSelector, SessionKeeper, attempt_revoke,
};
use zookeeper_client::{Acls, Client, CreateMode};

type Failure = Box<dyn Error + Send + Sync>;

/// How many leases the semaphore has.
const LEASES: usize = 2;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "it is told to others by pipes")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [cluster, name, what, rest @ ..] = arguments.as_slice() else {
        return Err("CLUSTER NAME hold|revoke|play …".into());
    };
    let connector = Client::connector().with_session_timeout(Duration::from_secs(2));
    let keeper = SessionKeeper::with(connector, cluster, |session| session).await?;
    match (*what, rest) {
        ("hold", [path]) => {
            let guard = InterProcessMutex::new(&keeper.session(), path)?.acquire().await?;
            println!("held");
            guard.run(guard.asked_to_let_go()).await?;
            println!("asked");
            Ok(guard.release().await?)
        }
        ("revoke", [path]) => {
            let session = keeper.session();
            let holder = InterProcessMutex::new(&session, path)?.participants().await?;
            Ok(attempt_revoke(&session, holder.first().ok_or("nobody holds it")?).await?)
        }
        ("play", [rounds, kinds @ ..]) => {
            for kind in kinds {
                let [kind, path, peers] = kind.split('=').collect::<Vec<_>>()[..] else {
                    return Err(format!("not KIND=PATH=PEERS: {kind}").into());
                };
                let client = keeper.session().client().clone();
                wait_for_peers(&client, path, peers.parse()?).await?;
                for round in 0..rounds.parse()? {
                    let play = play(&keeper, kind, path, name, round);
                    match tokio::time::timeout(Duration::from_secs(30), play).await {
                        Ok(played) => played.map_err(|error| format!("{name}: {kind}: {error}"))?,
                        Err(_) => return Err(format!("{name}: {kind}: no turn in 30 s").into()),
                    }
                }
            }
            Ok(())
        }
        _ => Err(format!("not known: {what}").into()),
    }
}

/// All begin together.
async fn wait_for_peers(client: &Client, path: &str, peers: usize) -> Result<(), Failure> {
    let options = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    client.create(&format!("/peers{path}/p-"), b"", &options).await?;
    while client.list_children(&format!("/peers{path}")).await?.len() < peers {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn play(keeper: &SessionKeeper, kind: &str, path: &str, name: &str, round: u32) -> Result<(), Failure> {
    let session = keeper.session();
    let client = session.client();
    match kind {
        "mutex" => {
            let guard = InterProcessMutex::new(&session, path)?.acquire().await?;
            alone(client, path, name).await?;
            guard.release().await?;
        }
        "semaphore-mutex" => {
            let guard = InterProcessSemaphoreMutex::new(&session, path)?.acquire().await?;
            alone(client, path, name).await?;
            guard.release().await?;
        }
        "semaphore" => {
            let lease = InterProcessSemaphore::new(&session, path, LEASES)?
                .acquire()
                .await?;
            inside(client, path, "s").await?;
            lease.release().await?;
        }
        "read-write" if round.is_multiple_of(3) => {
            let mut lock = InterProcessReadWriteLock::new(&session, path)?;
            let guard = lock.write().await?;
            alone(client, path, name).await?;
            let guard = lock.downgrade(guard).await?;
            inside(client, path, "r").await?;
            guard.release().await?;
        }
        "read-write" => {
            let guard = InterProcessReadWriteLock::new(&session, path)?.read().await?;
            inside(client, path, "r").await?;
            guard.release().await?;
        }
        "latch" => {
            let latch = LeaderLatch::start(keeper, path, name)?;
            latch.run_while_leader(|_| alone(client, path, name)).await??;
            latch.close().await?;
        }
        "selector" => {
            let selector = LeaderSelector::new(keeper, path, name)?;
            selector.lead_once(|_| alone(client, path, name)).await??;
        }
        _ => return Err("not known".into()),
    }
    Ok(())
}

/// Leaves a letter by reading and writing, which loses letters if somebody else does so too.
async fn alone(client: &Client, path: &str, name: &str) -> Result<(), Failure> {
    let log = format!("/log{path}");
    let (mut letters, _) = client.get_data(&log).await?;
    inside(client, path, "w").await?;
    letters.extend_from_slice(name.as_bytes());
    client.set_data(&log, &letters, None).await?;
    Ok(())
}

/// Is inside for a moment, and looks who else is.
async fn inside(client: &Client, path: &str, tag: &str) -> Result<(), Failure> {
    let dir = format!("/inside{path}");
    let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let (_, sequence) = client.create(&format!("{dir}/{tag}-"), b"", &options).await?;
    for _ in 0..2 {
        let all = client.list_children(&dir).await?;
        let writers = all.iter().any(|name| name.starts_with('w'));
        let too_many = all.iter().filter(|name| name.starts_with('s')).count() > LEASES;
        if too_many || (writers && all.len() > 1) {
            return Err(format!("{path}: inside at once: {all:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    client.delete(&format!("{dir}/{tag}-{sequence}"), None).await?;
    Ok(())
}
