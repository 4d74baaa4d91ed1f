//! Who may do what: permission checks and the validity of ACL lists (client spec, sections 9.1 to 9.3).

use std::borrow::Cow;

use oxkeeper_types::{Acl, ErrorCode, Id, Permissions};

use crate::settings::TreeSettings;

/// The schemes that ACL entries may have, besides `world:anyone` and `auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Digest,
    Ip,
    X509,
    Sasl,
}

impl Scheme {
    /// The scheme of a name, if it exists under these settings.
    fn of(name: &str, settings: &TreeSettings) -> Option<Scheme> {
        match name {
            "ip" => Some(Scheme::Ip),
            "digest" if settings.digest_scheme_enabled => Some(Scheme::Digest),
            "x509" if settings.x509_scheme_enabled => Some(Scheme::X509),
            "sasl" if settings.sasl_scheme_enabled => Some(Scheme::Sasl),
            _ => None,
        }
    }

    /// Whether an identity of the scheme is what an entry of scheme `auth` stands for: it was proven.
    fn is_authenticated(self) -> bool {
        self != Scheme::Ip
    }

    /// Whether an entry may have this id.
    fn is_valid_id(self, id: &str) -> bool {
        match self {
            Scheme::Digest => is_valid_digest_id(id),
            Scheme::Ip => IpRange::parse(id).is_some(),
            Scheme::X509 => is_valid_x500_name(id),
            Scheme::Sasl => is_valid_sasl_id(id),
        }
    }

    /// Whether the connection's identity `shown` is the one that the entry means with `wanted`.
    fn matches(self, shown: &str, wanted: &str, settings: &TreeSettings) -> bool {
        match self {
            Scheme::Digest => shown == wanted,
            Scheme::Ip => IpRange::parse(wanted).is_some_and(|range| range.contains(shown)),
            Scheme::X509 => shown == wanted || settings.x509_super_user.as_deref() == Some(shown),
            Scheme::Sasl => {
                shown == "super" || shown == wanted || settings.sasl_any_user.as_deref() == Some(wanted)
            }
        }
    }
}

fn is_anyone(id: &Id) -> bool {
    &*id.scheme == "world" && &*id.id == "anyone"
}

/// Whether a connection with the identities `ids` has one of the rights `wanted` under `acl`.
pub fn check_permission(acl: &[Acl], wanted: Permissions, ids: &[Id], settings: &TreeSettings) -> bool {
    if settings.skip_acl || acl.is_empty() {
        return true;
    }
    // The open ACL is by far the most frequent one.
    acl.iter()
        .any(|entry| entry.permissions.intersects(wanted) && is_anyone(&entry.id))
        || ids.iter().any(|id| &*id.scheme == "super")
        || acl
            .iter()
            .filter(|entry| entry.permissions.intersects(wanted))
            .any(|entry| {
                Scheme::of(&entry.id.scheme, settings).is_some_and(|scheme| {
                    ids.iter()
                        .filter(|shown| shown.scheme == entry.id.scheme)
                        .any(|shown| scheme.matches(&shown.id, &entry.id.id, settings))
                })
            })
}

/// The list to be stored for a list as given by a connection with the identities `ids`: without exact duplicates,
/// and with `auth` replaced by the proven identities. Of `auth_bytes_left` is taken what they have, in bytes as they are
/// logged.
///
/// # Errors
/// [`ErrorCode::InvalidAcl`] when nothing is given, an entry has a scheme that does not exist or an id that it
/// does not allow, `auth` stands for nobody, or it stands for more than `auth_bytes_left`.
pub(crate) fn fix_acl(
    given: Vec<Acl>,
    ids: &[Id],
    auth_bytes_left: &mut usize,
    settings: &TreeSettings,
) -> Result<Vec<Acl>, ErrorCode> {
    if given.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    // Long lists are looked up by hash, lest a big request takes time in proportion to its square.
    let mut seen = (given.len() > 16).then(|| {
        hashbrown::HashSet::with_capacity_and_hasher(
            given.len(),
            foldhash::fast::FixedState::with_seed(settings.hash_seed),
        )
    });
    let mut fixed = Vec::with_capacity(given.len());
    for (at, entry) in given.iter().enumerate() {
        let is_new = match &mut seen {
            Some(seen) => seen.insert(entry),
            None => !given[..at].contains(entry),
        };
        if !is_new {
            continue;
        }
        if is_anyone(&entry.id) {
            fixed.push(entry.clone());
        } else if &*entry.id.scheme == "auth" {
            let before = fixed.len();
            let proven = ids
                .iter()
                .filter(|id| Scheme::of(&id.scheme, settings).is_some_and(Scheme::is_authenticated));
            for id in proven {
                // Permissions, and two strings with their lengths.
                let bytes = 12 + id.scheme.len() + id.id.len();
                *auth_bytes_left = auth_bytes_left.checked_sub(bytes).ok_or(ErrorCode::InvalidAcl)?;
                fixed.push(Acl {
                    permissions: entry.permissions,
                    id: id.clone(),
                });
            }
            if fixed.len() == before {
                return Err(ErrorCode::InvalidAcl);
            }
        } else if Scheme::of(&entry.id.scheme, settings)
            .is_some_and(|scheme| scheme.is_valid_id(&entry.id.id))
        {
            fixed.push(entry.clone());
        } else {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    Ok(fixed)
}

/// The list as getACL shows it to those who may not change it: the hashes of `digest` entries are hidden.
pub fn redact_digest(acl: &[Acl]) -> Vec<Acl> {
    let mut shown = acl.to_vec();
    for entry in shown.iter_mut().filter(|entry| &*entry.id.scheme == "digest") {
        if let Some((user, _hash)) = entry.id.id.split_once(':') {
            entry.id.id = format!("{user}:x").into();
        }
    }
    shown
}

/// `user:hash`, which must be two parts once empty parts at the end are dropped.
fn is_valid_digest_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// A Kerberos name, `service/host@realm`; without an `@` anything goes.
fn is_valid_sasl_id(id: &str) -> bool {
    match id.split_once('@') {
        None => true,
        Some((name, realm)) => {
            !realm.contains(['/', '@']) && name.split_once('/').is_none_or(|(_, host)| !host.contains('/'))
        }
    }
}

/// A distinguished name in the form of RFC 2253: `keyword=value` joined by `,`, `;` or `+`; empty is valid.
fn is_valid_x500_name(name: &str) -> bool {
    split_unescaped(name).is_some_and(|parts| {
        (parts.len() == 1 && parts[0].trim().is_empty())
            || parts.iter().all(|part| {
                part.split_once('=')
                    .is_some_and(|(keyword, _)| is_x500_keyword(keyword.trim()))
            })
    })
}

/// Splits at separators that are neither quoted nor escaped; `None` when a quotation or an escape has no end.
fn split_unescaped(name: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut chars = name.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next()?;
            }
            '"' => quoted = !quoted,
            ',' | ';' | '+' if !quoted => {
                parts.push(Cow::Borrowed(&name[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(Cow::Borrowed(&name[start..]));
    (!quoted).then_some(parts)
}

/// The attribute keywords that Java's class for such names knows, or a numeric object identifier.
fn is_x500_keyword(keyword: &str) -> bool {
    const KEYWORDS: [&str; 22] = [
        "CN",
        "C",
        "L",
        "S",
        "ST",
        "O",
        "OU",
        "T",
        "IP",
        "STREET",
        "DC",
        "DNQUALIFIER",
        "DNQ",
        "SURNAME",
        "GIVENNAME",
        "INITIALS",
        "GENERATION",
        "EMAIL",
        "EMAILADDRESS",
        "UID",
        "SERIALNUMBER",
        "USERID",
    ];
    let is_oid = |oid: &str| {
        oid.split('.').count() > 1
            && oid
                .split('.')
                .all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let upper = keyword.to_ascii_uppercase();
    KEYWORDS.contains(&upper.as_str()) || is_oid(upper.strip_prefix("OID.").unwrap_or(&upper))
}

/// An address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Address {
    /// Reads an address as Java's provider does, which is neither stricter nor laxer than its ACLs: octets may
    /// have leading zeros, and the forms that mix both families are refused.
    fn parse(text: &str) -> Option<Address> {
        if text.contains(':') {
            Address::parse_v6(text)
        } else {
            Address::parse_v4(text)
        }
    }

    fn parse_v4(text: &str) -> Option<Address> {
        let mut octets = [0; 4];
        let mut parts = text.split('.');
        for octet in &mut octets {
            *octet = u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?;
        }
        parts.next().is_none().then_some(Address::V4(octets))
    }

    fn parse_v6(text: &str) -> Option<Address> {
        let mut sides = text.split("::");
        let (head, tail) = (sides.next()?, sides.next());
        if sides.next().is_some() {
            return None;
        }
        let segments = |side: &str| -> Option<Vec<u16>> {
            if side.is_empty() {
                return Some(Vec::new());
            }
            side.split(':')
                .map(|segment| {
                    let is_segment = (1..=4).contains(&segment.len())
                        && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
                    if is_segment {
                        u16::from_str_radix(segment, 16).ok()
                    } else {
                        None
                    }
                })
                .collect()
        };
        let head = segments(head)?;
        let tail = match tail {
            None if head.len() != 8 => return None,
            None => Vec::new(),
            Some(tail) => {
                let tail = segments(tail)?;
                // The gap stands for at least one segment.
                if head.len() + tail.len() >= 8 {
                    return None;
                }
                tail
            }
        };
        let mut bytes = [0; 16];
        for (at, segment) in head.iter().enumerate() {
            bytes[at * 2..][..2].copy_from_slice(&segment.to_be_bytes());
        }
        for (at, segment) in tail.iter().enumerate() {
            bytes[16 - tail.len() * 2 + at * 2..][..2].copy_from_slice(&segment.to_be_bytes());
        }
        Some(Address::V6(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Address::V4(bytes) => bytes,
            Address::V6(bytes) => bytes,
        }
    }
}

/// The addresses that share their first bits: `address` or `address/bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IpRange {
    address: Address,
    bits: usize,
}

impl IpRange {
    fn parse(text: &str) -> Option<IpRange> {
        let (address, bits) = match text.split_once('/') {
            None => (Address::parse(text)?, None),
            Some((address, bits)) => (Address::parse(address)?, Some(bits)),
        };
        let bits_max = address.bytes().len() * 8;
        let bits = match bits {
            None => bits_max,
            Some(bits) => usize::try_from(bits.parse::<i32>().ok()?)
                .ok()
                .filter(|&bits| bits <= bits_max)?,
        };
        Some(IpRange { address, bits })
    }

    fn contains(&self, address: &str) -> bool {
        let Some(address) = Address::parse(address) else {
            return false;
        };
        let (ours, theirs) = (self.address.bytes(), address.bytes());
        let (whole, rest) = (self.bits / 8, self.bits % 8);
        ours.len() == theirs.len()
            && ours[..whole] == theirs[..whole]
            && (rest == 0 || (ours[whole] ^ theirs[whole]) >> (8 - rest) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(permissions: i32, scheme: &str, id: &str) -> Acl {
        Acl {
            permissions: Permissions(permissions),
            id: Id::new(scheme, id),
        }
    }

    fn all_schemes() -> TreeSettings {
        TreeSettings {
            x509_scheme_enabled: true,
            sasl_scheme_enabled: true,
            ..TreeSettings::default()
        }
    }

    #[test]
    fn permission_is_given_by_any_entry_that_matches_an_identity() {
        let settings = TreeSettings::default();
        let ids = [Id::new("ip", "10.1.2.3"), Id::new("digest", "u:h")];
        let check = |list: &[Acl], wanted| check_permission(list, wanted, &ids, &settings);
        assert!(
            check(&[], Permissions::ADMIN),
            "an empty list lets everybody do everything"
        );
        assert!(check(&[acl(1, "world", "anyone")], Permissions::READ));
        assert!(!check(&[acl(1, "world", "anyone")], Permissions::WRITE));
        assert!(!check(&[acl(31, "world", "other")], Permissions::READ));
        assert!(check(&[acl(2, "digest", "u:h")], Permissions::WRITE));
        assert!(!check(&[acl(2, "digest", "u:x")], Permissions::WRITE));
        assert!(check(
            &[acl(1, "digest", "u:x"), acl(1, "ip", "10.0.0.0/8")],
            Permissions::READ
        ));
        assert!(check(
            &[acl(16, "digest", "u:h")],
            Permissions::READ.union(Permissions::ADMIN)
        ));
        assert!(!check(&[acl(0, "digest", "u:h")], Permissions::ALL));
        let disabled = TreeSettings {
            digest_scheme_enabled: false,
            ..settings.clone()
        };
        assert!(!check_permission(
            &[acl(2, "digest", "u:h")],
            Permissions::WRITE,
            &ids,
            &disabled
        ));
    }

    #[test]
    fn super_and_skip_acl_pass_every_check() {
        let list = [acl(1, "digest", "u:h")];
        let settings = TreeSettings::default();
        assert!(check_permission(
            &list,
            Permissions::ADMIN,
            &[Id::new("super", "")],
            &settings
        ));
        assert!(!check_permission(&list, Permissions::ADMIN, &[], &settings));
        let skipping = TreeSettings {
            skip_acl: true,
            ..settings
        };
        assert!(check_permission(&list, Permissions::ADMIN, &[], &skipping));
    }

    #[test]
    fn special_identities_of_x509_and_sasl_match_by_setting() {
        let settings = TreeSettings {
            x509_super_user: Some("CN=root".into()),
            sasl_any_user: Some("any".into()),
            ..all_schemes()
        };
        let check = |entry: Acl, id: Id| check_permission(&[entry], Permissions::READ, &[id], &settings);
        assert!(check(acl(1, "x509", "CN=a"), Id::new("x509", "CN=root")));
        assert!(!check(acl(1, "x509", "CN=a"), Id::new("x509", "CN=b")));
        assert!(check(acl(1, "sasl", "a"), Id::new("sasl", "super")));
        assert!(check(acl(1, "sasl", "any"), Id::new("sasl", "b")));
        assert!(!check(acl(1, "sasl", "a"), Id::new("sasl", "b")));
        assert!(!check(acl(1, "sasl", "a"), Id::new("digest", "a")));
    }

    #[test]
    fn ip_ranges_compare_prefixes_of_the_same_family() {
        for (range, address, expected) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3/0", "99.9.9.9", true),
            ("10.1.2.128/25", "10.1.2.200", true),
            ("10.1.2.128/25", "10.1.2.100", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("fe80::/10", "febf:1::2", true),
            ("fe80::/10", "fec0::", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.1", "::1", false),
            ("10.0.0.1", "host", false),
        ] {
            let list = [acl(1, "ip", range)];
            let ids = [Id::new("ip", address)];
            let passes = check_permission(&list, Permissions::READ, &ids, &TreeSettings::default());
            assert_eq!(passes, expected, "{range} {address}");
        }
    }

    #[test]
    fn ids_are_valid_by_the_rules_of_their_scheme() {
        for (scheme, id, valid) in [
            ("world", "anyone", true),
            ("world", "other", false),
            ("super", "", false),
            ("ensemble", "x", false),
            ("", "", false),
            ("digest", "u:h", true),
            ("digest", "u:h:", true),
            ("digest", ":h", true),
            ("digest", "u:", false),
            ("digest", "u", false),
            ("digest", "", false),
            ("digest", "::", false),
            ("digest", "u:h:x", false),
            ("ip", "1.2.3.4", true),
            ("ip", "01.2.3.4/32", true),
            ("ip", "1.2.3.4/33", false),
            ("ip", "1.2.3.4/-1", false),
            ("ip", "1.2.3.4/", false),
            ("ip", "1.2.3", false),
            ("ip", "1.2.3.4.5", false),
            ("ip", "1.2.3.256", false),
            ("ip", "host", false),
            ("ip", "::1/128", true),
            ("ip", "::1/129", false),
            ("ip", "1:2:3:4:5:6:7:8", true),
            ("ip", "1:2:3:4:5:6:7", false),
            ("ip", "1:2:3:4:5:6:7::8", false),
            ("ip", "1::2::3", false),
            ("ip", "1:2:3:4:5:6:7:8::", false),
            ("ip", "1:2:3:4:5:6:7::", true),
            ("ip", "::1.2.3.4", false),
            ("ip", "12345::", false),
            ("sasl", "bob", true),
            ("sasl", "bob/host@REALM", true),
            ("sasl", "bob@REALM@X", false),
            ("sasl", "a/b/c@REALM", false),
            ("sasl", "a/b/c", true),
            ("x509", "CN=a,OU=b\\,c,O=\"d,e\"", true),
            ("x509", "1.2.3=a", true),
            ("x509", "nonsense", false),
            ("x509", "FOO=a", false),
            ("x509", "CN=\"a", false),
        ] {
            let fixed = fix_acl(vec![acl(1, scheme, id)], &[], &mut 0, &all_schemes());
            assert_eq!(fixed.is_ok(), valid, "{scheme}:{id}");
        }
        for (scheme, id) in [("sasl", "bob"), ("x509", "CN=a")] {
            let fixed = fix_acl(vec![acl(1, scheme, id)], &[], &mut 0, &TreeSettings::default());
            assert_eq!(fixed, Err(ErrorCode::InvalidAcl), "{scheme} is not configured");
        }
    }

    #[test]
    fn auth_stands_for_proven_identities_and_duplicates_go() {
        let settings = all_schemes();
        let ids = [
            Id::new("ip", "1.2.3.4"),
            Id::new("digest", "u:h"),
            Id::new("sasl", "s"),
        ];
        let given = vec![
            acl(1, "auth", "ignored"),
            acl(31, "world", "anyone"),
            acl(31, "world", "anyone"),
            acl(1, "world", "anyone"),
            acl(1, "digest", "u:h"),
        ];
        let fixed = fix_acl(given, &ids, &mut 1000, &settings).unwrap();
        assert_eq!(
            fixed,
            [
                acl(1, "digest", "u:h"),
                acl(1, "sasl", "s"),
                acl(31, "world", "anyone"),
                acl(1, "world", "anyone"),
                acl(1, "digest", "u:h"),
            ]
        );
        assert_eq!(
            fix_acl(vec![acl(1, "auth", "")], &ids[..1], &mut 1000, &settings),
            Err(ErrorCode::InvalidAcl)
        );
        let many: Vec<Acl> = (0..40).map(|n| acl(n % 20, "world", "anyone")).collect();
        assert_eq!(
            fix_acl(many.clone(), &ids, &mut 0, &settings),
            Ok(many[..20].to_vec())
        );
        assert_eq!(
            fix_acl(vec![], &ids, &mut 0, &settings),
            Err(ErrorCode::InvalidAcl)
        );
    }

    #[test]
    fn only_digest_hashes_are_redacted() {
        let list = [
            acl(1, "digest", "u:h:i"),
            acl(1, "digest", "u"),
            acl(1, "sasl", "u:h"),
        ];
        assert_eq!(
            redact_digest(&list),
            [acl(1, "digest", "u:x"), acl(1, "digest", "u"), list[2].clone()]
        );
    }
}
