//! Every recipe at a server that is killed and started again, and on three servers whose leader is killed in the
//! middle of the play and comes back later. What is played is in `plays/`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod plays;
mod support;

use oxkeeper_testkit::{Ensemble, Server};
use plays::{Mark, RECIPES, Reached, Stage, play};
use tokio::sync::mpsc;

/// Plays a recipe, and checks that all that the marks say has happened in its midst.
async fn play_at(cluster: &str, recipe: &str, happen: impl FnMut(Mark) + Send + 'static) {
    let (marks, reached) = mpsc::unbounded_channel();
    let stage = Stage::new(cluster, recipe, marks).await;
    // On a thread of its own: it waits for servers.
    let happening = std::thread::spawn(move || at_marks(reached, happen));
    play(recipe, &stage).await;
    drop(stage);
    assert_eq!(happening.join().unwrap(), [Mark::LeaderDies, Mark::LeaderReturns]);
}

fn at_marks(mut reached: mpsc::UnboundedReceiver<Reached>, mut happen: impl FnMut(Mark)) -> Vec<Mark> {
    let mut marks = Vec::new();
    while let Some(Reached { mark, go_on }) = reached.blocking_recv() {
        happen(mark);
        marks.push(mark);
        // A play that has failed waits no more.
        let _ = go_on.send(());
    }
    marks
}

async fn at_one_server(recipe: &str) {
    let server = Server::start().unwrap();
    let cluster = server.connect_string();
    play_at(&cluster, recipe, move |mark| {
        if mark == Mark::LeaderDies {
            server.kill().unwrap();
            server.restart().unwrap();
        }
    })
    .await;
}

async fn at_three_servers(recipe: &str) {
    let ensemble = Ensemble::start(3).unwrap();
    let cluster = ensemble.connect_string();
    let mut dead = None;
    play_at(&cluster, recipe, move |mark| match mark {
        Mark::LeaderDies => {
            let leader = ensemble.wait_for_leader().unwrap();
            ensemble.server(leader).kill().unwrap();
            assert_ne!(ensemble.wait_for_leader().unwrap(), leader);
            dead = Some(leader);
        }
        Mark::LeaderReturns => {
            ensemble.server(dead.unwrap()).restart().unwrap();
            ensemble.wait_for_leader().unwrap();
        }
    })
    .await;
}

macro_rules! recipes {
    ($($recipe:ident)*) => {
        $(mod $recipe {
            #[tokio::test]
            async fn outlives_a_restart_of_its_server() {
                super::at_one_server(stringify!($recipe)).await;
            }

            #[tokio::test]
            async fn outlives_the_leader_of_its_ensemble() {
                super::at_three_servers(stringify!($recipe)).await;
            }
        })*

        #[test]
        fn every_recipe_is_played() {
            assert_eq!(RECIPES, [$(stringify!($recipe)),*]);
        }
    };
}

recipes! {
    mutex semaphore_mutex read_write_lock semaphore multi_lock revocable_lock simple_lock
    latch selector
    queue priority_queue delay_queue bounded_queue
    barrier double_barrier
    shared_value shared_count atomic_long
    unique_ids sequential_names
    node_cache children_cache tree_cache
    config persistent_node group discovery
}
