//! ACLs as they are typed and shown.

use serde_json::{Value, json};
use zookeeper_client::{Acl, AuthId, Permission};

use crate::failure::{Failure, Outcome};
use crate::text::escape;

/// `scheme:id:perms[,…]`.
///
/// # Errors
/// When an entry has not that form.
pub(crate) fn parse_acl(text: &str) -> Outcome<Vec<Acl>> {
    const HINT: &str = "write scheme:id:perms[,…] with perms of c d r w a, for example world:anyone:r,digest:user:hash:cdrwa";
    text.split(',')
        .map(|entry| {
            let wrong =
                |what: &str| Failure::new("InvalidACL", format!("{} {what}", escape(entry))).hint(HINT);
            let (scheme, rest) = entry
                .split_once(':')
                .ok_or_else(|| wrong("does not have the form scheme:id:perm"))?;
            let (id, letters) = rest
                .rsplit_once(':')
                .ok_or_else(|| wrong("does not have the form scheme:id:perm"))?;
            let permission = parse_permissions(letters).ok_or_else(|| wrong("has an unknown permission"))?;
            Ok(Acl::new(permission, AuthId::new(scheme, id)))
        })
        .collect()
}

const PERMISSIONS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

/// The permissions of letters, if all of them stand for one.
pub(crate) fn parse_permissions(letters: &str) -> Option<Permission> {
    letters.chars().try_fold(Permission::NONE, |all, letter| {
        let (_, bit) = PERMISSIONS.into_iter().find(|(known, _)| *known == letter)?;
        Some(all | bit)
    })
}

/// The letters of permissions.
pub(crate) fn permissions_text(permission: Permission) -> String {
    PERMISSIONS
        .into_iter()
        .filter(|(_, bit)| permission.has(*bit))
        .map(|(letter, _)| letter)
        .collect()
}

/// An ACL for scripts, and in exports.
pub(crate) fn acl_json(acl: &[Acl]) -> Value {
    acl.iter()
        .map(|entry| {
            json!({
                "scheme": entry.scheme(),
                "id": entry.id(),
                "perms": permissions_text(entry.permission()),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acls_are_read_with_ids_that_have_colons() {
        let acl = parse_acl("ip:fe80::1:rw,digest:user:hash=:cdrwa,auth::r").unwrap();
        let shown: Vec<String> = acl
            .iter()
            .map(|entry| {
                format!(
                    "{} {} {}",
                    entry.scheme(),
                    entry.id(),
                    permissions_text(entry.permission())
                )
            })
            .collect();
        assert_eq!(shown, ["ip fe80::1 rw", "digest user:hash= cdrwa", "auth  r"]);
        assert!(
            parse_acl("world:anyone")
                .unwrap_err()
                .message
                .contains("scheme:id:perm")
        );
        assert!(
            parse_acl("world:anyone:rx")
                .unwrap_err()
                .message
                .contains("unknown permission")
        );
    }
}
