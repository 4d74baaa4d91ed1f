//! How texts, data and Stats are written: readable, and never with a control character that came from a server.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use zookeeper_client::Stat;

/// Whether a terminal could take `c` for something else than a character to show: controls, and what turns or hides
/// the text around it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn push_escaped(text: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = match c {
        '\n' => write!(text, "\\n"),
        '\r' => write!(text, "\\r"),
        '\t' => write!(text, "\\t"),
        c if u32::from(c) < 0x100 => write!(text, "\\x{:02x}", u32::from(c)),
        c => write!(text, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// `text` on one line, with what a terminal must not see as `\x1b` or `\u{202e}`.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            push_escaped(&mut safe, c)
        } else {
            safe.push(c)
        }
    }
    safe
}

/// The data of a znode as text: newlines and tabs stay, other unsafe characters are escaped, and bytes that are not
/// UTF-8 are shown as `\xff`.
pub(crate) fn data_text(data: &[u8]) -> String {
    let mut safe = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) && !matches!(c, '\n' | '\t') {
                push_escaped(&mut safe, c);
            } else {
                safe.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// A line of JSON, with what serde_json leaves and a terminal must not see as `\u…` too.
pub(crate) fn json_line(value: &Value) -> String {
    let mut safe = String::new();
    for c in value.to_string().chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Adds data to a JSON object: as `data` when it is text, else as `base64`.
pub(crate) fn insert_data(object: &mut Value, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => object["data"] = json!(text),
        Err(_) => object["base64"] = json!(BASE64.encode(data)),
    }
}

/// A Stat as zkCli prints it, without the last newline.
pub(crate) fn stat_text(stat: &Stat) -> String {
    format!(
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = {:#x}\ndataLength = {}\nnumChildren = {}",
        stat.czxid,
        date_text(stat.ctime),
        stat.mzxid,
        date_text(stat.mtime),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

/// A Stat for scripts: zxids and the owner as hexadecimal text, times in ms since 1970.
pub(crate) fn stat_json(stat: &Stat) -> Value {
    json!({
        "cZxid": format!("{:#x}", stat.czxid),
        "ctime": stat.ctime,
        "mZxid": format!("{:#x}", stat.mzxid),
        "mtime": stat.mtime,
        "pZxid": format!("{:#x}", stat.pzxid),
        "cversion": stat.cversion,
        "dataVersion": stat.version,
        "aclVersion": stat.aversion,
        "ephemeralOwner": format!("{:#x}", stat.ephemeral_owner),
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    })
}

/// `Thu Jan 01 00:00:00 UTC 1970`, from ms since then, in the time zone of `TZ` or else of the machine, as
/// `java.util.Date` is printed. UTC when that is not known.
fn date_text(ms: i64) -> String {
    // One that says nothing usable is no reason not to show a Stat.
    date_text_in(ms, &TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

fn date_text_in(ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at
            .to_zoned(zone.clone())
            .strftime("%a %b %d %H:%M:%S %Z %Y")
            .to_string(),
        // Beyond the year 9999, as a server with a broken clock may have it.
        Err(_) => format!("{ms} ms since 1970"),
    }
}

/// Data as zkCli's hexdump shows it: sixteen bytes a line, with offsets and printable characters.
pub(crate) fn hexdump(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let rule = format!("+--------+{}+----------------+", "-".repeat(49));
    let digits: String = (0..16).map(|column| format!("  {column:x}")).collect();
    let mut text = format!("         +{}+\n         |{digits} |\n{rule}", "-".repeat(49));
    for (line, bytes) in data.chunks(16).enumerate() {
        let hex: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        let shown: String = bytes
            .iter()
            .map(|&byte| {
                if (b' '..=b'~').contains(&byte) {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        let _ = write!(text, "\n|{:08x}|{hex:<48} |{shown:<16}|", line * 16);
    }
    let _ = write!(text, "\n{rule}");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_written_as_java_writes_them() {
        let utc = |ms| date_text_in(ms, &TimeZone::UTC);
        assert_eq!(utc(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(utc(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(utc(1_795_288_805_123), "Sat Nov 21 19:20:05 UTC 2026");
        assert_eq!(utc(-1), "Wed Dec 31 23:59:59 UTC 1969");
        assert_eq!(utc(i64::MAX), "9223372036854775807 ms since 1970");
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(
            date_text_in(1_795_288_805_123, &berlin),
            "Sat Nov 21 20:20:05 CET 2026"
        );
        assert_eq!(
            date_text_in(1_782_000_000_000, &berlin),
            "Sun Jun 21 02:00:00 CEST 2026"
        );
    }

    #[test]
    fn a_hexdump_shows_offsets_bytes_and_characters() {
        let text = hexdump(b"oxkeeper\0\xff and more");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[3],
            "|00000000| 6f 78 6b 65 65 70 65 72 00 ff 20 61 6e 64 20 6d |oxkeeper.. and m|"
        );
        assert_eq!(
            lines[4],
            "|00000010| 6f 72 65                                        |ore             |"
        );
        assert!(
            lines.iter().skip(2).all(|line| line.len() == lines[2].len()),
            "{text}"
        );
    }

    #[test]
    fn hostile_text_is_shown_escaped() {
        assert_eq!(data_text(b"a\x1b[2Jb\n\tc\xff\r"), "a\\x1b[2Jb\n\tc\\xff\\r");
        assert_eq!(escape("a\nb\u{9b}\u{202e}ü"), "a\\nb\\x9b\\u{202e}ü");
        assert_eq!(json_line(&json!("\u{9b}\u{e0001}")), r#""\u009b\udb40\udc01""#);
    }

    proptest! {
        #[test]
        fn nothing_printed_holds_a_character_a_terminal_would_obey(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!data_text(&data).chars().any(|c| is_unsafe(c) && c != '\n' && c != '\t'));
            let text = String::from_utf8_lossy(&data);
            prop_assert!(!escape(&text).chars().any(is_unsafe));
            let line = json_line(&json!(text));
            prop_assert!(!line.chars().any(is_unsafe));
            let back: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(back, json!(text));
        }
    }
}
