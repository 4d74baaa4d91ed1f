//! Every relative link in the documentation leads to a file, and every page of `docs/` is linked from another.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::repository;

/// Checks all pages; the error lists dead links and unlinked pages.
pub(crate) fn check() -> Result<(), Vec<String>> {
    let root = repository();
    let mut pages: Vec<PathBuf> = markdown_in(&root);
    pages.extend(markdown_in(&root.join("docs")));
    pages.extend(markdown_in(&root.join("interop")));
    let mut problems = Vec::new();
    let mut linked = BTreeSet::new();
    for page in &pages {
        let text = fs::read_to_string(page).map_err(|error| vec![format!("{}: {error}", page.display())])?;
        for target in targets(&text) {
            let file = normal(&page.parent().unwrap_or(&root).join(&target));
            match file.exists() {
                true => _ = linked.insert(file),
                false => problems.push(format!(
                    "{} links to {target}, which does not exist",
                    page.display()
                )),
            }
        }
    }
    for page in markdown_in(&root.join("docs")) {
        if !linked.contains(&normal(&page)) {
            problems.push(format!("no page links to {}", page.display()));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn markdown_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect()
}

/// The relative targets of a page's links, without what follows a `#`.
fn targets(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
        .map(str::to_owned)
        .collect()
}

/// The path without `.` and `..`, so that two ways to one file compare equal.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut done, part| {
        match part {
            Component::ParentDir => _ = done.pop(),
            Component::CurDir => {}
            other => done.push(other),
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_leads_somewhere_and_every_page_is_linked() {
        check().unwrap();
    }

    #[test]
    fn links_are_found_without_anchors_and_urls() {
        assert_eq!(targets("[a](docs/x.md#y) [b](https://x) [c](#z)"), ["docs/x.md"]);
    }
}
