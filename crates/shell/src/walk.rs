//! Commands that visit a subtree. What others change meanwhile may be seen or not; a znode that vanishes is left out.

use std::sync::Arc;

use oxkeeper_types::ROOT_PATH;
use serde_json::json;
use zookeeper_client::{Acl, Client, Error, MultiWriteError, Stat};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::Session;
use crate::text::escape;

/// How many requests are under way at once.
pub(crate) const REQUESTS_AT_ONCE: usize = 64;
/// How many bytes of paths a transaction of deletes may have; servers take 1 MiB unless they are told otherwise.
const BATCH_BYTES: usize = 256 * 1024;

/// How often something is asked when its answer is lost with the connection.
const TRIES_MAX: usize = 5;

/// The outcome of a request that may have been lost with its connection: then it is asked again. The client sends it
/// when it has found a server, or fails when the session is over. For reads, and for what may be done twice.
pub(crate) async fn or_again<T, E, F>(first: Result<T, E>, ask: impl Fn() -> F) -> Result<T, E>
where
    E: MayBeLost,
    F: Future<Output = Result<T, E>>,
{
    let mut outcome = first;
    for _ in 1..TRIES_MAX {
        if !outcome.as_ref().is_err_and(MayBeLost::is_lost) {
            break;
        }
        outcome = ask().await;
    }
    outcome
}

/// What a request failed with.
pub(crate) trait MayBeLost {
    /// Whether the connection broke before the answer came.
    fn is_lost(&self) -> bool;
}

impl MayBeLost for Error {
    fn is_lost(&self) -> bool {
        matches!(self, Error::ConnectionLoss | Error::Custom(_))
    }
}

/// With the path it is about.
impl MayBeLost for (String, Error) {
    fn is_lost(&self) -> bool {
        self.1.is_lost()
    }
}

/// A path that can be one.
///
/// # Errors
/// With the rule it breaks.
pub(crate) fn checked(path: String) -> Outcome<String> {
    match oxkeeper_types::validate_path(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(bad_path(&path, &error.to_string())),
    }
}

fn bad_path(path: &str, reason: &str) -> Failure {
    Failure::new(
        "InvalidPath",
        format!("Invalid path \"{}\": {reason}", escape(path)),
    )
    .hint("paths are written /like/this; the root is /")
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
/// A transaction whose answer is lost with its connection is asked again, and what is gone by then is none of its
/// business: a delete that was done need not be done.
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
        let (mut first, mut bytes) = (rest.len(), 0);
        while first > 0
            && rest.len() - first < batch
            && (bytes == 0 || bytes + rest[first - 1].len() <= BATCH_BYTES)
        {
            first -= 1;
            bytes += rest[first].len();
        }
        let (left, chunk) = rest.split_at(first);
        let delete = || delete_together(client, chunk);
        let mut outcome = or_again(delete().await, delete).await;
        if let Err((_, Error::NoNode)) = outcome {
            outcome = delete_one_by_one(client, chunk).await;
        }
        outcome.map_err(|(path, error)| {
            let failure = Failure::of(&error, &path);
            let (done, all) = (paths.len() - rest.len(), paths.len());
            Failure {
                message: format!("Failed to delete some node(s) in the subtree! {}", failure.message),
                ..failure
            }
            .hint(format!(
                "{done} of {all} znodes are deleted for certain; when the cause is gone, run it again for what is left"
            ))
        })?;
        progress.add(chunk.len() as u64);
        rest = left;
    }
    progress.finish();
    Ok(paths.len())
}

/// Deletes znodes in one transaction, the last one first. An error comes with the path it is about.
async fn delete_together(client: &Client, paths: &[String]) -> Result<(), (String, Error)> {
    let mut writer = client.new_multi_writer();
    for path in paths.iter().rev() {
        writer
            .add_delete(path, None)
            .map_err(|error| (path.clone(), error))?;
    }
    match writer.commit().await {
        Ok(_) => Ok(()),
        Err(MultiWriteError::OperationFailed { index, source }) => {
            let path = paths.iter().rev().nth(index).unwrap_or(&paths[0]);
            Err((path.clone(), source))
        }
        Err(MultiWriteError::RequestFailed { source }) => Err((paths[0].clone(), source)),
    }
}

/// Deletes znodes, the last one first, of which some are gone already.
async fn delete_one_by_one(client: &Client, paths: &[String]) -> Result<(), (String, Error)> {
    for chunk in paths.rchunks(REQUESTS_AT_ONCE) {
        let asked: Vec<_> = chunk.iter().rev().map(|path| client.delete(path, None)).collect();
        let mut is_any_lost = false;
        for (path, answer) in chunk.iter().rev().zip(asked) {
            let mut answer = answer.await;
            is_any_lost |= answer.as_ref().is_err_and(MayBeLost::is_lost);
            // It may have been sent over the next connection, before its lost children were asked for again.
            if is_any_lost && answer == Err(Error::NotEmpty) {
                answer = client.delete(path, None).await;
            }
            match or_again(answer, || client.delete(path, None)).await {
                Ok(()) | Err(Error::NoNode) => {}
                Err(error) => return Err((path.clone(), error)),
            }
        }
    }
    Ok(())
}

/// A znode that is still to be visited.
struct Open {
    path: String,
    name: String,
    /// How far below the root.
    level: usize,
    /// The lines to the left of it in a drawing.
    indent: String,
    /// Whether it is the last child of its parent.
    last: bool,
    children: Option<Children>,
}

/// The names of the children of a znode in their order, and its Stat; `None` when it is gone.
type Children = Option<(Vec<String>, Stat)>;

/// A walk through a subtree, each znode before those below it, and those in the order of their names.
struct Walk {
    /// What is still to be visited, the next one last.
    open: Vec<Open>,
}

impl Walk {
    fn new(root: &str) -> Walk {
        let root = Open {
            path: root.to_owned(),
            name: root.to_owned(),
            level: 0,
            indent: String::new(),
            last: true,
            children: None,
        };
        Walk { open: vec![root] }
    }

    /// The next znode and its children; `None` at the end. Many are asked for at once. `watched` leaves child watches.
    async fn next(
        &mut self,
        client: &Client,
        watched: Option<&Arc<Session>>,
    ) -> Outcome<Option<(Open, Children)>> {
        let Some(mut next) = self.open.pop() else {
            return Ok(None);
        };
        if let Some(children) = next.children.take() {
            return Ok(Some((next, children)));
        }
        let from = self.open.len().saturating_sub(REQUESTS_AT_ONCE - 1);
        let soon = self.open[from..]
            .iter_mut()
            .filter(|open| open.children.is_none());
        let mut batch: Vec<&mut Open> = std::iter::once(&mut next).chain(soon.rev()).collect();
        let paths: Vec<String> = batch.iter().map(|open| open.path.clone()).collect();
        for (open, found) in batch.iter_mut().zip(found_below(client, &paths, watched).await) {
            open.children = Some(match found {
                Ok((mut names, stat)) => {
                    names.sort();
                    Some((names, stat))
                }
                Err(Error::NoNode) if open.level > 0 => None,
                Err(error) => return Err(Failure::of(&error, &open.path)),
            });
        }
        let children = next.children.take().flatten();
        Ok(Some((next, children)))
    }

    /// Has the children of `parent` visited next.
    fn descend(&mut self, parent: &Open, names: Vec<String>) {
        let indent = match (parent.level, parent.last) {
            (0, _) => String::new(),
            (_, true) => format!("{}    ", parent.indent),
            (_, false) => format!("{}│   ", parent.indent),
        };
        let count = names.len();
        let children = names.into_iter().enumerate().rev().map(|(index, name)| Open {
            path: child(&parent.path, &name),
            name,
            level: parent.level + 1,
            indent: indent.clone(),
            last: index + 1 == count,
            children: None,
        });
        self.open.extend(children);
    }
}

/// The children and Stats of `paths`, all asked for at once.
async fn found_below(
    client: &Client,
    paths: &[String],
    watched: Option<&Arc<Session>>,
) -> Vec<Result<(Vec<String>, Stat), Error>> {
    let mut found = Vec::with_capacity(paths.len());
    let Some(session) = watched else {
        let asked: Vec<_> = paths.iter().map(|path| client.get_children(path)).collect();
        for (path, answer) in paths.iter().zip(asked) {
            found.push(or_again(answer.await, || client.get_children(path)).await);
        }
        return found;
    };
    let ask = |path| client.get_and_watch_children(path);
    let asked: Vec<_> = paths.iter().map(|path| ask(path)).collect();
    for (path, answer) in paths.iter().zip(asked) {
        let answer = or_again(answer.await, || ask(path)).await;
        found.push(answer.map(|(names, stat, watcher)| {
            session.keep_child_watch(path, watcher);
            (names, stat)
        }));
    }
    found
}

/// Prints every path of a subtree, children before grandchildren, and leaves watches as zkCli does: for data at the
/// root, for children everywhere.
pub(crate) async fn list(session: &Arc<Session>, output: Output, root: &str, watch: bool) -> Outcome {
    let client = &session.client;
    let say = |path: &str| output.result(&escape(path), &json!({ "path": path }));
    if watch {
        let ask = || client.get_and_watch_data(root);
        let (_, _, watcher) = or_again(ask().await, ask)
            .await
            .map_err(|error| Failure::of(&error, root))?;
        session.keep_data_watch(root, watcher);
    }
    let mut walk = Walk::new(root);
    let watched = watch.then_some(session);
    while let Some((at, children)) = walk.next(client, watched).await? {
        if at.level == 0 {
            say(&at.path)?;
        }
        let names = children.map_or_else(Vec::new, |(names, _)| names);
        for name in &names {
            say(&child(&at.path, name))?;
        }
        walk.descend(&at, names);
    }
    Ok(())
}

/// Draws a subtree, down to `depth` levels below its root.
pub(crate) async fn draw(client: &Client, output: Output, root: &str, depth: Option<usize>) -> Outcome {
    let mut walk = Walk::new(root);
    let (mut shown, mut is_hidden) = (0_u64, false);
    while let Some((at, children)) = walk.next(client, None).await? {
        let Some((names, stat)) = children else {
            continue;
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
        if stat.ephemeral_owner != 0 {
            remarks.push("ephemeral".to_owned());
        }
        if !deeper && !names.is_empty() {
            is_hidden = true;
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
            "ephemeral": stat.ephemeral_owner != 0,
            "numChildren": stat.num_children,
        });
        output.result(&line, &value)?;
        if deeper {
            walk.descend(&at, names);
        }
    }
    if is_hidden {
        output.note(&format!(
            "{shown} znodes, and below them more; a larger -d shows them"
        ));
    }
    Ok(())
}

/// Gives every znode of a subtree the ACL; returns how many. One that refuses it does not keep the others from it.
///
/// # Errors
/// When some refused it, or the session is over.
pub(crate) async fn set_acl(
    client: &Client,
    root: &str,
    acl: &[Acl],
    version: Option<i32>,
) -> Outcome<usize> {
    // All paths first: with the new ACL the rest might not be readable any more.
    let paths = paths_below(client, root).await?;
    let (mut count, mut refused, mut first) = (0, 0_usize, None);
    for chunk in paths.chunks(REQUESTS_AT_ONCE) {
        let ask = |path| client.set_acl(path, acl, version);
        let asked: Vec<_> = chunk.iter().map(|path| ask(path)).collect();
        for (path, answer) in chunk.iter().zip(asked) {
            let answer = answer.await.map(drop);
            // With a version, one that was done would be refused the second time.
            let answer = match version {
                None => acl_again(client, path, acl, answer).await,
                Some(_) => answer,
            };
            match answer {
                Ok(()) => count += 1,
                Err(Error::NoNode) if path != root => {}
                Err(error @ (Error::NoAuth | Error::BadVersion | Error::NoNode)) => {
                    refused += 1;
                    first.get_or_insert_with(|| Failure::of(&error, path));
                }
                Err(error) => {
                    let failure = Failure::of(&error, path);
                    let all = paths.len();
                    return Err(failure.hint(format!(
                        "{count} of {all} znodes have the ACL for certain; when the cause is gone, run it again"
                    )));
                }
            }
        }
    }
    match first {
        None => Ok(count),
        Some(failure) => Err(Failure {
            message: format!(
                "{}; {refused} of {} znodes refused the ACL, {count} have it",
                failure.message,
                paths.len()
            ),
            ..failure
        }),
    }
}

/// The outcome of setting an ACL that may have been lost with its connection: then it is set again. The second time it may
/// be refused by what the first one set.
pub(crate) async fn acl_again(
    client: &Client,
    path: &str,
    acl: &[Acl],
    first: Result<(), Error>,
) -> Result<(), Error> {
    if !first.as_ref().is_err_and(MayBeLost::is_lost) {
        return first;
    }
    let ask = || client.set_acl(path, acl, None);
    match or_again(ask().await, ask).await {
        Err(Error::NoAuth) => {
            let look = || client.get_acl(path);
            match or_again(look().await, look).await {
                Ok((found, _)) if found == acl => Ok(()),
                Ok(_) => Err(Error::NoAuth),
                Err(error) => Err(error),
            }
        }
        outcome => outcome.map(drop),
    }
}
