//! Commands that visit a subtree. What others change meanwhile may be seen or not; a znode that vanishes is left out.

use std::sync::Arc;

use oxkeeper_types::ROOT_PATH;
use serde_json::json;
use zookeeper_client::{Acl, Client, Error, MultiWriteError};

use crate::failure::{Failure, Outcome};
use crate::output::{Output, escape};
use crate::progress::Progress;
use crate::session::Session;

/// How many requests are under way at once.
pub(crate) const REQUESTS_AT_ONCE: usize = 64;
/// How many bytes of paths a transaction of deletes may have; servers take 1 MiB unless they are told otherwise.
const BATCH_BYTES: usize = 256 * 1024;

/// How often a read is asked again when its answer is lost with the connection.
const TRIES_MAX: usize = 5;

/// The outcome of a read that may have been lost with its connection: then it is asked again. The client sends it when it
/// has found a server, or fails when the session is over.
pub(crate) async fn or_again<T, F>(first: Result<T, Error>, ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut outcome = first;
    for _ in 1..TRIES_MAX {
        if !matches!(outcome, Err(Error::ConnectionLoss | Error::Custom(_))) {
            break;
        }
        outcome = ask().await;
    }
    outcome
}

/// The path of a child.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path == ROOT_PATH {
        format!("/{name}")
    } else {
        format!("{path}/{name}")
    }
}

/// The children of each of `paths`, asked for all at once; those of a znode that is gone are `None`.
pub(crate) async fn children_of(client: &Client, paths: &[String]) -> Outcome<Vec<Option<Vec<String>>>> {
    // The client sends a request when it is called, not when it is awaited.
    let asked: Vec<_> = paths.iter().map(|path| client.list_children(path)).collect();
    let mut found = Vec::with_capacity(asked.len());
    for (path, answer) in paths.iter().zip(asked) {
        found.push(
            match or_again(answer.await, || client.list_children(path)).await {
                Ok(names) => Some(names),
                Err(Error::NoNode) => None,
                Err(error) => return Err(Failure::of(&error, path)),
            },
        );
    }
    Ok(found)
}

/// Every path of a subtree, each behind its parent.
async fn paths_below(client: &Client, root: &str) -> Outcome<Vec<String>> {
    let mut paths = vec![root.to_owned()];
    let mut listed = 0;
    while listed < paths.len() {
        let end = paths.len().min(listed + REQUESTS_AT_ONCE);
        let found = children_of(client, &paths[listed..end]).await?;
        if listed == 0 && found[0].is_none() {
            return Err(Failure::of(&Error::NoNode, root));
        }
        for (offset, names) in found.into_iter().enumerate() {
            let below: Vec<String> = names
                .into_iter()
                .flatten()
                .map(|name| child(&paths[listed + offset], &name))
                .collect();
            paths.extend(below);
        }
        listed = end;
    }
    Ok(paths)
}

/// Deletes a subtree in transactions of `batch` znodes, the deepest first. Returns how many znodes there were.
///
/// # Errors
/// Those of the server. Transactions that were done before stay done.
pub(crate) async fn delete_all(client: &Client, output: Output, root: &str, batch: usize) -> Outcome<usize> {
    if root == ROOT_PATH {
        return Err(Failure::of(
            &Error::BadArguments(&"the root and /zookeeper cannot be deleted"),
            root,
        )
        .hint("the root and /zookeeper cannot be deleted; name the subtrees, `ls /` shows them"));
    }
    let paths = paths_below(client, root).await?;
    let mut progress = Progress::new(output, "deleted", Some(paths.len() as u64));
    let mut rest = paths.as_slice();
    while !rest.is_empty() {
        let mut writer = client.new_multi_writer();
        let (mut first, mut bytes) = (rest.len(), 0);
        while first > 0
            && rest.len() - first < batch
            && (bytes == 0 || bytes + rest[first - 1].len() <= BATCH_BYTES)
        {
            first -= 1;
            bytes += rest[first].len();
            writer
                .add_delete(&rest[first], None)
                .map_err(|error| Failure::of(&error, &rest[first]))?;
        }
        writer.commit().await.map_err(|error| {
            let (path, error) = match error {
                MultiWriteError::OperationFailed { index, source } => (
                    rest.get(rest.len() - 1 - index).map_or(root, String::as_str),
                    source,
                ),
                MultiWriteError::RequestFailed { source } => (root, source),
            };
            let failure = Failure::of(&error, path);
            let cause = failure.message.clone();
            Failure {
                message: format!("Failed to delete some node(s) in the subtree! {cause}"),
                ..failure
            }
            .hint("somebody else changes it or may not be overruled; run it again for what is left")
        })?;
        progress.add((rest.len() - first) as u64);
        rest = &rest[..first];
    }
    progress.finish();
    Ok(paths.len())
}

/// Prints every path of a subtree, children before grandchildren, and leaves watches as zkCli does: for data at the
/// root, for children everywhere.
pub(crate) async fn list(session: &Arc<Session>, output: Output, root: &str, watch: bool) -> Outcome {
    let client = &session.client;
    let failure = |error: Error| Failure::of(&error, root);
    let say = |path: &str| output.result(&escape(path), &json!({ "path": path }));
    if watch {
        let (_, _, watcher) = client.get_and_watch_data(root).await.map_err(failure)?;
        session.keep_data_watch(root, watcher);
    } else {
        client.get_data(root).await.map_err(failure)?;
    }
    say(root)?;
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let names = if watch {
            let ask = || client.list_and_watch_children(&path);
            or_again(ask().await, ask).await.map(|(names, watcher)| {
                session.keep_child_watch(&path, watcher);
                names
            })
        } else {
            let ask = || client.list_children(&path);
            or_again(ask().await, ask).await
        };
        let mut names = match names {
            Ok(names) => names,
            Err(Error::NoNode) => continue,
            Err(error) => return Err(Failure::of(&error, &path)),
        };
        names.sort();
        let paths: Vec<String> = names.iter().map(|name| child(&path, name)).collect();
        for path in &paths {
            say(path)?;
        }
        open.extend(paths.into_iter().rev());
    }
    Ok(())
}

/// Draws a subtree, down to `depth` levels below its root.
pub(crate) async fn draw(client: &Client, output: Output, root: &str, depth: Option<usize>) -> Outcome {
    struct Open {
        path: String,
        name: String,
        level: usize,
        /// The lines to the left of it.
        indent: String,
        last: bool,
    }
    let mut open = vec![Open {
        path: root.to_owned(),
        name: root.to_owned(),
        level: 0,
        indent: String::new(),
        last: true,
    }];
    let (mut shown, mut hidden) = (0_u64, 0_u64);
    while let Some(at) = open.pop() {
        let children = or_again(client.get_children(&at.path).await, || {
            client.get_children(&at.path)
        })
        .await;
        let (mut names, stat) = match children {
            Ok(found) => found,
            Err(Error::NoNode) if at.level > 0 => continue,
            Err(error) => return Err(Failure::of(&error, &at.path)),
        };
        shown += 1;
        let branch = match (at.level, at.last) {
            (0, _) => "",
            (_, true) => "└── ",
            (_, false) => "├── ",
        };
        let deeper = depth.is_none_or(|depth| at.level < depth);
        let mut remarks = Vec::new();
        if stat.data_length > 0 {
            remarks.push(format!("{} bytes", stat.data_length));
        }
        if stat.ephemeral_owner > 0 {
            remarks.push("ephemeral".to_owned());
        }
        if !deeper && !names.is_empty() {
            hidden += names.len() as u64;
            remarks.push(format!("{} children not shown", names.len()));
        }
        let remarks = if remarks.is_empty() {
            String::new()
        } else {
            format!(" ({})", remarks.join(", "))
        };
        let line = format!("{}{branch}{}{remarks}", at.indent, escape(&at.name));
        let value = json!({
            "path": at.path,
            "level": at.level,
            "dataLength": stat.data_length,
            "ephemeral": stat.ephemeral_owner > 0,
            "numChildren": stat.num_children,
        });
        output.result(&line, &value)?;
        if !deeper {
            continue;
        }
        names.sort();
        let indent = match (at.level, at.last) {
            (0, _) => String::new(),
            (_, true) => format!("{}    ", at.indent),
            (_, false) => format!("{}│   ", at.indent),
        };
        let count = names.len();
        open.extend(names.into_iter().enumerate().rev().map(|(index, name)| Open {
            path: child(&at.path, &name),
            name,
            level: at.level + 1,
            indent: indent.clone(),
            last: index + 1 == count,
        }));
    }
    if hidden > 0 {
        output.note(&format!(
            "{shown} znodes, and below them more; a larger -d shows them"
        ));
    }
    Ok(())
}

/// Gives every znode of a subtree the ACL; returns how many.
pub(crate) async fn set_acl(
    client: &Client,
    root: &str,
    acl: &[Acl],
    version: Option<i32>,
) -> Outcome<usize> {
    // All paths first: with the new ACL the rest might not be readable any more.
    let paths = paths_below(client, root).await?;
    let mut count = 0;
    for chunk in paths.chunks(REQUESTS_AT_ONCE) {
        let asked: Vec<_> = chunk
            .iter()
            .map(|path| client.set_acl(path, acl, version))
            .collect();
        for (path, answer) in chunk.iter().zip(asked) {
            match answer.await {
                Ok(_) => count += 1,
                Err(Error::NoNode) if path != root => {}
                Err(error) => return Err(Failure::of(&error, path)),
            }
        }
    }
    Ok(count)
}
