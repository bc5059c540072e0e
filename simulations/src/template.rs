//! A message that is encoded once and patched for every send.

use std::iter;

use colloquy_protocol::frame::client::ClientFrame;
use colloquy_tests::device::Device;

use crate::scan::number;

/// Digits of the time of sending at the start of every ciphertext; digits are base64.
pub(crate) const STAMP_DIGITS: usize = 16;

/// Stands for the time of sending until it is patched.
const STAMP: &str = "0101010101010101";
/// Between the time of sending and the conversation's place, in a message's name; the first place is left out.
const PLACE_MARK: char = '-';
const NAME: &str = "name-goes-here";
const SEQUENCE: u64 = 918_273_645;

/// A `message` frame in pieces, between which go name, key, `client_sequence`, and the time of sending at the start of each
/// ciphertext.
pub(crate) struct Template {
    pieces: Vec<String>,
    counted: bool,
    /// Keeps the keys of one sender's connections apart.
    sender: u32,
}

impl Template {
    /// A message from `device` to `recipients` whose ciphertexts have `payload` bytes of base64 each, in the conversation at
    /// this `place` among those of its sender. The place is part of the message's name ([`place_of`]).
    ///
    /// One that is not `counted` has no `client_sequence`: nothing waits for it if it is refused.
    pub(crate) fn new(
        device: &Device,
        recipients: &[&Device],
        payload: usize,
        (sender, place): (u32, usize),
        counted: bool,
    ) -> Self {
        let mut message = device.compose(recipients, "");
        NAME.clone_into(&mut message.client_message_id);
        message.client_sequence = Some(SEQUENCE);
        // Unpadded base64 has no length of 4n + 1.
        let filler = payload.saturating_sub(STAMP_DIGITS);
        let filler = if filler % 4 == 1 { filler + 1 } else { filler };
        let body = format!("{STAMP}{}", "C".repeat(filler));
        for ciphertext in &mut message.payload.content.ciphertexts {
            ciphertext.body.clone_from(&body);
        }
        let key = message.idempotency_key.to_string();
        let json = ClientFrame::Message(Box::new(message)).to_json();
        let mut rest = json.as_str();
        let mut cut = |mark: &str| {
            let (before, after) = rest.split_once(mark).expect("a mark stands in the frame, in this order");
            rest = after;
            before.to_owned()
        };
        let mut pieces = vec![cut(NAME), cut(&key), cut(&SEQUENCE.to_string())];
        pieces.extend(recipients.iter().map(|_| cut(STAMP)));
        pieces.push(rest.to_owned());
        if place > 0 {
            pieces[1].insert_str(0, &format!("{PLACE_MARK}{place}"));
        }
        if !counted {
            let before = pieces[2].trim_end_matches("\"client_sequence\":").len();
            pieces[2].truncate(before);
            pieces[3].remove(0);
        }
        Self { pieces, counted, sender }
    }

    /// Appends the `count`-th message of its sender, the `in_conversation`-th of its conversation, sent at `sent_at_us`.
    pub(crate) fn write(&self, count: u64, in_conversation: u64, sent_at_us: u64, out: &mut Vec<u8>) {
        let mut stamp = [0; STAMP_DIGITS];
        decimal(sent_at_us, &mut stamp);
        let mut key = *b"00000000-0000-4000-8000-000000000000";
        hexadecimal(u64::from(self.sender), &mut key[..8]);
        hexadecimal(count, &mut key[24..]);
        let mut sequence = [0; 20];
        decimal(in_conversation, &mut sequence);
        let digits = sequence.iter().position(|digit| *digit != b'0').unwrap_or(sequence.len() - 1);
        let sequence: &[u8] = if self.counted { &sequence[digits..] } else { b"" };
        let values: [&[u8]; 3] = [&stamp, &key, sequence];
        let (last, between) = self.pieces.split_last().expect("a template has pieces");
        for (piece, value) in between.iter().zip(values.into_iter().chain(iter::repeat(&stamp[..]))) {
            out.extend_from_slice(piece.as_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(last.as_bytes());
    }
}

/// The place of the conversation, among those of its sender, that a message of this name is in.
pub(crate) fn place_of(name: &[u8]) -> usize {
    let place = name.get(STAMP_DIGITS + PLACE_MARK.len_utf8()..).map_or(0, number);
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn decimal(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn hexadecimal(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
    use colloquy_protocol::rest::accounts::Tokens;
    use colloquy_tests::device::DeviceKeys;

    fn device(n: u8) -> Device {
        let id = format!("01890a5d-ac96-774b-bcce-b302099a80{n:02}");
        let user_id: UserId = id.parse().unwrap();
        let login_id: LoginId = id.parse().unwrap();
        Device {
            user_id,
            device_id: DeviceId::new("phone").unwrap(),
            tokens: Tokens {
                user_id,
                login_id,
                access_token: String::new(),
                access_token_expires_at: 0,
                refresh_token: String::new(),
            },
            keys: DeviceKeys::generate(),
            email: String::new(),
            password: String::new(),
        }
    }

    #[test]
    fn a_patched_template_is_a_good_message() {
        let template = Template::new(&device(1), &[&device(2), &device(3)], 256, (7, 0), true);
        for count in [1, 10, 123_456] {
            let mut out = Vec::new();
            template.write(count, count, 987_654_321, &mut out);
            let frame = ClientFrame::parse(std::str::from_utf8(&out).unwrap()).unwrap();
            let ClientFrame::Message(message) = frame else { panic!("not a message") };
            assert_eq!(message.client_sequence, Some(count));
            assert_eq!(message.client_message_id, "0000000987654321");
            assert_eq!(message.idempotency_key.uuid().as_u128() & 0xffff_ffff_ffff, u128::from(count));
            let ciphertexts = &message.payload.content.ciphertexts;
            assert_eq!(ciphertexts.len(), 2);
            assert!(ciphertexts.iter().all(|one| one.body.starts_with("0000000987654321")));
            assert!(ciphertexts.iter().all(|one| one.body.len() == 256));
        }
    }

    #[test]
    fn a_message_of_a_later_conversation_says_which_and_has_its_own_number() {
        let mut out = Vec::new();
        Template::new(&device(1), &[&device(2)], 256, (7, 12), true).write(300, 4, 5, &mut out);
        let frame = ClientFrame::parse(std::str::from_utf8(&out).unwrap()).unwrap();
        let ClientFrame::Message(message) = frame else { panic!("not a message") };
        let name = message.client_message_id.as_bytes();
        assert_eq!((number(name), place_of(name)), (5, 12));
        assert_eq!(message.client_sequence, Some(4));
        assert_eq!(message.idempotency_key.uuid().as_u128() & 0xffff_ffff_ffff, 300);
        assert_eq!(place_of(b"0000000987654321"), 0);
    }

    #[test]
    fn a_message_that_is_not_counted_has_no_number() {
        let mut out = Vec::new();
        Template::new(&device(1), &[&device(2)], 256, (7, 0), false).write(3, 3, 5, &mut out);
        let frame = ClientFrame::parse(std::str::from_utf8(&out).unwrap()).unwrap();
        assert!(matches!(frame, ClientFrame::Message(message) if message.client_sequence.is_none()));
    }
}
