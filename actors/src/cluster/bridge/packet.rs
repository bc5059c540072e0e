//! What bridges say to each other, as bytes. Pure.
//!
//! The first byte is the kind; numbers are big-endian.
//!
//! | kind | then |
//! |---|---|
//! | 1 `Hello` | receiver's link number or 0, sender's link number, incarnation (u64 each), oldest, newest version (u16), pod's name |
//! | 2 `Parcel` | receiver's link number, frames and bytes taken in so far (u64 each), then frames: length (u32), bytes |
//!
//! These layouts never change: what may change is negotiated, and lies within frames.

use colloquy_storage::model::live::PodId;

use super::FRAME_MAX;
use super::window::Count;

const HELLO: u8 = 1;
const PARCEL: u8 = 2;
const HELLO_MIN: usize = 1 + 8 + 8 + 8 + 2 + 2;
/// Bytes of a parcel before its first frame.
pub(super) const PARCEL_HEAD: usize = 1 + 8 + 8 + 8;
/// Bytes before each frame.
pub(super) const FRAME_HEAD: usize = 4;
/// Bytes of frames that are put together in one parcel. A greater frame travels alone.
const PARCEL_FULL: usize = 64 * 1024;

/// The greeting of one end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The number that the receiver gave; 0 if it has not been heard yet.
    pub(super) to: u64,
    /// The number that the sender gives: parcels to it carry it.
    pub(super) from: u64,
    /// The sender ...
    pub(super) pod_id: PodId,
    /// ... and its incarnation.
    pub(super) incarnation: u64,
    /// The versions it speaks: oldest, newest.
    pub(super) versions: (u16, u16),
}

/// Anything said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A greeting.
    Hello(Hello),
    /// Frames, or none: then it is a pulse.
    Parcel(Parcel),
}

/// Frames of one link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    /// The number that the receiver gave to the link.
    pub(super) to: u64,
    /// What the sender has taken in so far.
    pub(super) taken: Count,
    bytes: Vec<u8>,
}

/// Not what a bridge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet is malformed")]
pub(super) struct Malformed;

impl Hello {
    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO_MIN + self.pod_id.as_str().len());
        bytes.push(HELLO);
        for number in [self.to, self.from, self.incarnation] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for version in [self.versions.0, self.versions.1] {
            bytes.extend_from_slice(&version.to_be_bytes());
        }
        bytes.extend_from_slice(self.pod_id.as_str().as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let name = bytes.get(HELLO_MIN..).ok_or(Malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| Malformed)?;
        let version = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Ok(Self {
            to: number(bytes, 1),
            from: number(bytes, 9),
            incarnation: number(bytes, 17),
            versions: (version(25), version(27)),
            pod_id: PodId::new(name).map_err(|_| Malformed)?,
        })
    }
}

impl Packet {
    /// From bytes.
    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(&HELLO) => Hello::decode(&bytes).map(Self::Hello),
            Some(&PARCEL) if bytes.len() >= PARCEL_HEAD => {
                let taken = Count { frames: number(&bytes, 9), bytes: number(&bytes, 17) };
                Ok(Self::Parcel(Parcel { to: number(&bytes, 1), taken, bytes }))
            }
            _ => Err(Malformed),
        }
    }
}

impl Parcel {
    /// Its frames, in order. One that is malformed is the last.
    pub(super) fn frames(&self) -> impl Iterator<Item = Result<&[u8], Malformed>> {
        let mut rest = &self.bytes[PARCEL_HEAD..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let frame = split_frame(&mut rest);
            if frame.is_err() {
                rest = &[];
            }
            Some(frame)
        })
    }
}

fn split_frame<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_first_chunk::<FRAME_HEAD>().ok_or(Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*head)).map_err(|_| Malformed)?;
    if length > FRAME_MAX {
        return Err(Malformed);
    }
    let (frame, tail) = tail.split_at_checked(length).ok_or(Malformed)?;
    *rest = tail;
    Ok(frame)
}

/// `bytes` must be long enough.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

/// A parcel that is being filled.
#[derive(Debug)]
pub(super) struct Filling(Vec<u8>);

impl Filling {
    /// An empty one, with room for a frame of so many bytes.
    pub(super) fn for_frame(length: usize) -> Self {
        let mut bytes = Vec::with_capacity(PARCEL_HEAD + FRAME_HEAD + length);
        bytes.resize(PARCEL_HEAD, 0);
        bytes[0] = PARCEL;
        Self(bytes)
    }

    /// Is there room for a frame of so many bytes beside the others?
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.0.len() == PARCEL_HEAD || self.0.len() + FRAME_HEAD + length <= PARCEL_FULL
    }

    /// Puts a frame in. It must not be larger than [`FRAME_MAX`].
    pub(super) fn put(&mut self, frame: &[u8]) {
        debug_assert!(frame.len() <= FRAME_MAX, "larger frames are refused before");
        let length = u32::try_from(frame.len()).expect("FRAME_MAX fits");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(frame);
    }

    /// As bytes, addressed.
    pub(super) fn seal(mut self, to: u64, taken: Count) -> Vec<u8> {
        for (at, number) in [(1, to), (9, taken.frames), (17, taken.bytes)] {
            self.0[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Count = Count { frames: 7, bytes: 70 };

    fn parcel(bytes: Vec<u8>) -> Parcel {
        match Packet::decode(bytes) {
            Ok(Packet::Parcel(parcel)) => parcel,
            other => panic!("not a parcel: {other:?}"),
        }
    }

    #[test]
    fn a_greeting_comes_out_as_it_went_in() {
        let pod_id = PodId::new("pod-a.1").unwrap();
        let hello = Hello { to: 1, from: u64::MAX, pod_id, incarnation: 3, versions: (4, 5) };
        assert_eq!(Packet::decode(hello.encode()), Ok(Packet::Hello(hello)));
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_in_order() {
        let frames = [vec![], vec![1], vec![2; 300], vec![3; FRAME_MAX]];
        let mut filling = Filling::for_frame(0);
        frames.iter().for_each(|frame| filling.put(frame));
        let parcel = parcel(filling.seal(9, TAKEN));
        assert_eq!((parcel.to, parcel.taken), (9, TAKEN));
        assert!(parcel.frames().map(Result::unwrap).eq(frames.iter().map(Vec::as_slice)));
    }

    #[test]
    fn a_pulse_is_a_parcel_without_frames() {
        assert_eq!(parcel(Filling::for_frame(0).seal(1, TAKEN)).frames().count(), 0);
    }

    #[test]
    fn small_frames_share_a_parcel_and_a_great_one_travels_alone() {
        let mut filling = Filling::for_frame(FRAME_MAX);
        assert!(filling.has_room(FRAME_MAX));
        filling.put(&[0; 300]);
        assert!(filling.has_room(300) && !filling.has_room(FRAME_MAX));
    }

    #[test]
    fn whatever_is_cut_short_or_unknown_is_malformed() {
        let hello =
            Hello { to: 0, from: 1, pod_id: PodId::new("a").unwrap(), incarnation: 1, versions: (1, 1) };
        let hello = hello.encode();
        assert!((0..hello.len()).all(|length| Packet::decode(hello[..length].to_vec()) == Err(Malformed)));
        let mut filling = Filling::for_frame(3);
        filling.put(b"abc");
        let bytes = filling.seal(1, TAKEN);
        assert_eq!(Packet::decode(bytes[..PARCEL_HEAD - 1].to_vec()), Err(Malformed));
        for length in PARCEL_HEAD + 1..bytes.len() {
            assert_eq!(parcel(bytes[..length].to_vec()).frames().last(), Some(Err(Malformed)), "{length}");
        }
        assert_eq!(Packet::decode(vec![3; 64]), Err(Malformed));
    }
}
