//! What stands in the values. Whatever cannot be read counts as not said: it is another version's, and gone in a while.

use colloquy_protocol::UnixMillis;
use colloquy_storage::model::live::{Connection, Member, PodId};

/// A number as text that is ordered as the number is: scripts compare it, and their own numbers have 53 bits.
pub(super) fn ordered(number: u64) -> String {
    format!("{number:020}")
}

/// The field of a connection within its user's.
pub(super) fn field(connection: &Connection) -> String {
    format!("{}@{}", connection.device_id, connection.pod_id)
}

/// The pod that a connection is to, if its time is not up: field `device@pod`, value `generation end`.
pub(super) fn pod_of(field: &str, value: &str, now: UnixMillis) -> Option<PodId> {
    let (_, end) = value.split_once(' ')?;
    let (_, pod_id) = field.split_once('@')?;
    is_before(now, end)?;
    PodId::new(pod_id).ok()
}

/// A member, if its time is not up: value `incarnation end json`.
pub(super) fn member(value: &str, now: UnixMillis) -> Option<Member> {
    let (_, rest) = value.split_once(' ')?;
    let (end, json) = rest.split_once(' ')?;
    is_before(now, end)?;
    serde_json::from_str(json).ok()
}

fn is_before(now: UnixMillis, end: &str) -> Option<()> {
    (now < end.parse().ok()?).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_as_text() {
        let numbers = [0, 9, 10, 1 << 53, (1 << 53) + 1, u64::MAX];
        assert!(numbers.map(ordered).is_sorted());
        assert!(numbers.map(ordered).iter().all(|text| text.len() == 20));
    }

    #[test]
    fn what_has_ended_or_cannot_be_read_counts_as_not_said() {
        assert_eq!(pod_of("phone@a", "1 1000", 999), PodId::new("a").ok());
        assert_eq!(pod_of("phone@a", "1 1000", 1000), None);
        for (field, value) in
            [("phone", "1 1000"), ("phone@", "1 1000"), ("phone@a", "1"), ("phone@a", "1 x")]
        {
            assert_eq!(pod_of(field, value, 1), None, "{field} {value}");
        }
        let json = r#"{"pod_id":"a","incarnation":1,"address":"a:1","takes_ownership":true}"#;
        assert_eq!(member(&format!("1 1000 {json}"), 999).unwrap().address, "a:1");
        assert!(member(&format!("1 1000 {json}"), 1000).is_none());
        assert!(member("1 1000 {}", 1).is_none());
        assert!(member(json, 1).is_none());
    }
}
