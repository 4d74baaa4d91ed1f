//! Who a connection shows itself to be (client spec, sections 9.4 and 9.5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxkeeper_types::Id;
use sha1::Digest as _;

use crate::{AuthSettings, DigestAlgorithm};

/// The id of the scheme digest for `user:password`: the user, and the hash of the whole.
fn digest_id(user_and_password: &[u8], algorithm: DigestAlgorithm) -> String {
    let text = String::from_utf8_lossy(user_and_password);
    let bytes = text.as_bytes();
    let hash = match algorithm {
        DigestAlgorithm::Sha1 => STANDARD.encode(sha1::Sha1::digest(bytes)),
        DigestAlgorithm::Sha224 => STANDARD.encode(sha2::Sha224::digest(bytes)),
        DigestAlgorithm::Sha256 => STANDARD.encode(sha2::Sha256::digest(bytes)),
        DigestAlgorithm::Sha384 => STANDARD.encode(sha2::Sha384::digest(bytes)),
        DigestAlgorithm::Sha512 => STANDARD.encode(sha2::Sha512::digest(bytes)),
        DigestAlgorithm::Sha512With224Bits => STANDARD.encode(sha2::Sha512_224::digest(bytes)),
        DigestAlgorithm::Sha512With256Bits => STANDARD.encode(sha2::Sha512_256::digest(bytes)),
    };
    let user = text.split_once(':').map_or(&*text, |(user, _)| user);
    format!("{user}:{hash}")
}

/// The identities that an auth request adds to a connection from `address`, or `None` when it fails.
pub(crate) fn authenticate(
    scheme: Option<&str>,
    data: Option<&[u8]>,
    address: &Id,
    settings: &AuthSettings,
) -> Option<Vec<Id>> {
    match scheme? {
        "digest" if settings.digest_enabled => {
            // There is no store of passwords: any user and password make an identity.
            let id = digest_id(data?, settings.digest_algorithm);
            let mut ids = Vec::new();
            if settings.super_digest.as_ref() == Some(&id) {
                ids.push(Id::new("super", ""));
            }
            ids.push(Id::new("digest", &id));
            Some(ids)
        }
        "ip" => Some(vec![address.clone()]),
        // The client says which ensemble it means to be talking to; it becomes nobody by that.
        "ensemble" => {
            let names = settings.ensemble_names.as_ref()?;
            let wanted = String::from_utf8_lossy(data.unwrap_or_default());
            let is_ours = wanted.is_empty()
                || names
                    .as_ref()
                    .is_none_or(|names| names.iter().any(|name| *name == wanted));
            is_ours.then(Vec::new)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(scheme: &str, data: &[u8], settings: &AuthSettings) -> Option<Vec<Id>> {
        authenticate(Some(scheme), Some(data), &Id::new("ip", "10.0.0.1"), settings)
    }

    #[test]
    fn digest_ids_are_those_of_java() {
        let ids = ids("digest", b"u:p", &AuthSettings::default()).unwrap();
        assert_eq!(ids, [Id::new("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")]);
    }

    #[test]
    fn the_super_digest_makes_super() {
        let settings = AuthSettings {
            super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned()),
            ..AuthSettings::default()
        };
        assert!(
            ids("digest", b"super:test", &settings)
                .unwrap()
                .contains(&Id::new("super", ""))
        );
        assert!(
            !ids("digest", b"super:other", &settings)
                .unwrap()
                .contains(&Id::new("super", ""))
        );
    }

    #[test]
    fn unknown_schemes_and_a_digest_that_is_off_fail() {
        let off = AuthSettings {
            digest_enabled: false,
            ..AuthSettings::default()
        };
        assert_eq!(ids("digest", b"u:p", &off), None);
        assert_eq!(ids("sasl", b"", &off), None);
        assert_eq!(
            authenticate(None, Some(b""), &Id::new("ip", "10.0.0.1"), &off),
            None
        );
        assert_eq!(
            authenticate(
                Some("digest"),
                None,
                &Id::new("ip", "10.0.0.1"),
                &AuthSettings::default()
            ),
            None
        );
        assert_eq!(ids("ip", b"", &off).unwrap(), [Id::new("ip", "10.0.0.1")]);
    }
}
