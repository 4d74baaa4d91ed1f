//! The task of one connection: reads, lets [`Connection`] think, writes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use oxkeeper_core::{Client, CloseReason, Connection, Verdict};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use crate::four_letter::{self, WordRequest};
use crate::service::Service;

/// What is read at most at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// A buffer that grew beyond this is given back once it is empty, so that idle connections stay small.
const BUFFER_KEPT_MAX: usize = 1024;

/// How long a connection that is to be closed may take to receive what was still to be sent.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);

thread_local! {
    /// Where input arrives. A connection that waits for input needs no room for it: it shares this with all others of
    /// its thread, and keeps only what did arrive.
    static ARRIVALS: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into());
}

/// Serves one connection until either side ends it.
pub(crate) async fn run(
    mut stream: TcpStream,
    client: Arc<Client>,
    wake: Arc<Notify>,
    service: Arc<Service>,
) {
    let mut connection = Connection::new(client.clone(), service.shared.clone());
    let ended = serve(&mut stream, &mut connection, &client, &wake, &service).await;
    connection.finish(&mut |event| service.core.submit(event));
    let peer = client.peer;
    match ended {
        Ok(CloseReason::Malformed(how)) => tracing::warn!(%peer, "connection closed, malformed input: {how}"),
        Ok(reason @ (CloseReason::BadOperation(_) | CloseReason::Limit(_) | CloseReason::AuthFailed)) => {
            tracing::warn!(%peer, "connection closed: {reason}");
        }
        Ok(reason) => tracing::debug!(%peer, "connection closed: {reason}"),
        Err(error) => tracing::debug!(%peer, "connection lost: {error}"),
    }
}

async fn serve(
    stream: &mut TcpStream,
    connection: &mut Connection,
    client: &Arc<Client>,
    wake: &Notify,
    service: &Service,
) -> io::Result<CloseReason> {
    let mut input: Vec<u8> = Vec::new();
    let mut out: Vec<u8> = Vec::new();
    let sessionless_until = Instant::now() + service.config.client.sessionless_timeout;
    loop {
        let mut verdict = Verdict::Open;
        if connection.is_fresh() && input.len() >= 4 {
            match four_letter::recognise(&input) {
                Some(WordRequest::Incomplete) => {}
                Some(WordRequest::Word(word)) => {
                    let answer = four_letter::answer(word, service).await;
                    timeout(LAST_WORDS_WITHIN, stream.write_all(answer.as_bytes()))
                        .await
                        .map_err(|_| does_not_read())??;
                    return close(stream, CloseReason::SessionClosed).await;
                }
                None if !service.serves_clients() => return Ok(CloseReason::NotServing),
                None if !service.admits_session(&input) => {
                    return Ok(CloseReason::Limit("connection_throttle_tokens"));
                }
                None => verdict = process(connection, service, &mut input, &mut out),
            }
        } else if !connection.is_fresh() {
            verdict = process(connection, service, &mut input, &mut out);
        }
        let had_output = !out.is_empty();
        if had_output {
            let patience = match (&verdict, client.session()) {
                (Verdict::Open | Verdict::Paused, Some((_, timeout_ms))) => {
                    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
                }
                _ => LAST_WORDS_WITHIN,
            };
            flush(stream, client, wake, &mut out, patience).await?;
        }
        match verdict {
            Verdict::Close(reason) => return close(stream, reason).await,
            // Only the output was in the way.
            Verdict::Paused if had_output => continue,
            Verdict::Paused => {
                wake.notified().await;
                continue;
            }
            Verdict::Open => {}
        }
        shrink(&mut input);
        shrink(&mut out);
        let read = async {
            if connection.has_session() {
                return read_into(stream, &mut input).await;
            }
            match timeout_at(sessionless_until, read_into(stream, &mut input)).await {
                Ok(read) => read,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no session was asked for in time",
                )),
            }
        };
        tokio::select! {
            biased;
            () = wake.notified() => {}
            read = read => if read? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client hung up"));
            },
        }
    }
}

/// Waits for input and appends what there is, at most [`READ_BYTES_MAX`]. 0 means that the client hung up.
async fn read_into(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        ARRIVALS.with_borrow_mut(|arrivals| {
            let mut arrived = ReadBuf::new(arrivals);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut arrived))?;
            input.extend_from_slice(arrived.filled());
            Poll::Ready(Ok(arrived.filled().len()))
        })
    })
    .await
}

/// Lets the connection work on the input and drops what it is done with.
fn process(
    connection: &mut Connection,
    service: &Service,
    input: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Verdict {
    let progress = connection.process(service.clock.now(), input, out, &mut |event| {
        service.core.submit(event)
    });
    input.drain(..progress.consumed);
    progress.verdict
}

/// Sends the output. A client that takes nothing of it for `patience` has given up its place, and one that the core
/// ends meanwhile does not get the rest.
async fn flush(
    stream: &mut TcpStream,
    client: &Client,
    wake: &Notify,
    out: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<()> {
    let mut woken = false;
    let mut sent = 0;
    let mut until = Instant::now() + patience;
    while sent < out.len() {
        tokio::select! {
            biased;
            written = timeout_at(until, stream.write(&out[sent..])) => match written {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(written)) => {
                    sent += written;
                    until = Instant::now() + patience;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(does_not_read()),
            },
            () = wake.notified() => {
                woken = true;
                if client.is_closed_by_core() {
                    break;
                }
            }
        }
    }
    out.clear();
    if woken {
        wake.notify_one();
    }
    Ok(())
}

fn does_not_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers")
}

async fn close(stream: &mut TcpStream, reason: CloseReason) -> io::Result<CloseReason> {
    // The peer may be gone already; that is what closing is about.
    let _gone = timeout(Duration::from_secs(1), stream.shutdown()).await;
    Ok(reason)
}

fn shrink(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT_MAX {
        *buffer = Vec::new();
    }
}
