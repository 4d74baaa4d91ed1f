//! Instances of a service that register, and a client that spreads its requests over those that work.
//!
//! ```sh
//! cargo run -p oxkeeper-recipes --example service_registry -- 127.0.0.1:2181 serve 9001
//! cargo run -p oxkeeper-recipes --example service_registry -- 127.0.0.1:2181 serve 9002
//! cargo run -p oxkeeper-recipes --example service_registry -- 127.0.0.1:2181 ask
//! ```
//! Kill one of the two while the third asks: its requests go to the other at once, and the first is gone for good when
//! its session is over. Start it again, and it gets its share again.

use std::error::Error;
use std::time::Duration;

use oxkeeper_recipes::{Balance, Discovery, Picked, ServiceInstance, SessionKeeper, UriSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SERVICE: &str = "greeting";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cluster = arguments.next().unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    let keeper = SessionKeeper::connect(&cluster).await?;
    let discovery = Discovery::new(&keeper, "/services")?;
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), Some(port)) => serve(&discovery, port.parse()?).await,
        (Some("ask"), times) => {
            let times = times.map_or(Ok(u32::MAX), |times| times.parse())?;
            ask(&discovery, times).await
        }
        _ => Err("usage: service_registry CLUSTER serve PORT | ask [TIMES]".into()),
    }
}

async fn serve(discovery: &Discovery, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut instance = ServiceInstance::new(SERVICE, "127.0.0.1", port);
    instance.uri_spec = Some(UriSpec::parse("tcp://{address}:{port}")?);
    let mut registration = discovery.register(instance)?;
    registration.registered().await?;
    // Withdrawn while it cannot be reached, and given back when it can.
    let (every, within) = (Duration::from_secs(1), Duration::from_secs(1));
    registration.watch_health(every, within, move || async move {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    });
    say(&format!("serving as {}", registration.instance().id));
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that goes away is its own affair.
            let _ = client.write_all(format!("hello from {port}").as_bytes()).await;
        });
    }
}

async fn ask(discovery: &Discovery, times: u32) -> Result<(), Box<dyn Error>> {
    let provider = discovery.provider(SERVICE, Balance::LeastOutstanding)?;
    provider.ready().await?;
    let mut answered = 0;
    while answered < times {
        // Looked at before: who comes after this is waited for no more.
        let known = provider.cache().instances();
        let Some(instance) = provider.pick() else {
            say("nobody serves; waiting");
            provider.cache().instances_other_than(&known).await?;
            continue;
        };
        match greet(&instance).await {
            Ok(greeting) => {
                say(&greeting);
                answered += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                say(&format!(
                    "{}: {error}; trying another",
                    instance.uri().unwrap_or_default()
                ));
                instance.failed();
            }
        }
    }
    Ok(())
}

async fn greet(instance: &Picked) -> Result<String, std::io::Error> {
    let address = instance.address.as_deref().unwrap_or("127.0.0.1");
    let mut stream = TcpStream::connect((address, instance.port.unwrap_or(0))).await?;
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await?;
    Ok(greeting)
}

#[allow(clippy::print_stdout, reason = "an example on a terminal")]
fn say(what: &str) {
    println!("{what}");
}
