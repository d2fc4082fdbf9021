//! Mutations: how a valid input is damaged.

use proptest::prelude::*;
use proptest::sample::Index;

/// Inputs never grow beyond this: longer ones find nothing more and cost more.
pub const INPUT_BYTES_MAX: usize = 8 << 10;
/// Mutations of one input: with more, hardly anything of the format is left.
const MUTATIONS_MAX: usize = 6;
/// Bytes inserted, deleted or copied at once.
const RUN_BYTES_MAX: usize = 64;

/// One change of an input. Places are taken modulo its length.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Flips one bit.
    Flip(Index, u8),
    /// Sets a byte.
    Set(Index, u8),
    /// Writes a number that decoders trip over, in so many bytes.
    Number(Index, Width, u64),
    /// Adds to the number that stands there.
    Add(Index, Width, i8),
    /// Writes another number wherever the one that stands there stands: what says the same in two places goes on to.
    Everywhere(Index, u64),
    /// Puts bytes in.
    Insert(Index, Vec<u8>),
    /// Takes bytes out.
    Delete(Index, usize),
    /// Repeats a part of the input at another place.
    Copy(Index, usize, Index),
    /// Puts a part of another valid input in.
    Splice(Index, Index, usize, Index),
    /// Cuts the end off.
    Cut(Index),
}

/// How a number stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    bytes: usize,
    big_endian: bool,
}

/// An input: a member of the corpus (or of nothing) with its mutations, and whether its checksums are mended.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Which member.
    pub base: Index,
    /// Begin with no bytes instead.
    pub from_nothing: bool,
    /// In order.
    pub mutations: Vec<Mutation>,
    /// Mend the checksums at the end.
    pub mended: bool,
}

fn width() -> impl Strategy<Value = Width> {
    (prop::sample::select(vec![1usize, 2, 4, 8]), any::<bool>())
        .prop_map(|(bytes, big_endian)| Width { bytes, big_endian })
}

fn number() -> impl Strategy<Value = u64> {
    let edges = [7u32, 8, 15, 16, 20, 24, 31, 32, 63].map(|bit| 1u64 << bit);
    let near = edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]);
    let all: Vec<u64> = near.chain([0, 1, 2, u64::MAX, u64::MAX - 1, u64::from(u32::MAX) - 1]).collect();
    prop_oneof![3 => prop::sample::select(all), 1 => any::<u64>()]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let run = || 1..=RUN_BYTES_MAX;
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        (any::<u8>(), run()).prop_map(|(byte, count)| vec![byte; count])
    ];
    prop_oneof![
        3 => (index(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (index(), width(), number()).prop_map(|(at, width, number)| Mutation::Number(at, width, number)),
        3 => (index(), width(), any::<i8>()).prop_map(|(at, width, by)| Mutation::Add(at, width, by)),
        2 => (index(), number()).prop_map(|(at, number)| Mutation::Everywhere(at, number)),
        2 => (index(), bytes).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        2 => (index(), run()).prop_map(|(at, count)| Mutation::Delete(at, count)),
        2 => (index(), run(), index()).prop_map(|(from, count, at)| Mutation::Copy(from, count, at)),
        2 => (index(), index(), run(), index())
            .prop_map(|(other, from, count, at)| Mutation::Splice(other, from, count, at)),
        1 => index().prop_map(Mutation::Cut),
    ]
}

/// Draws inputs.
pub fn recipe() -> impl Strategy<Value = Recipe> {
    let nothing = prop::bool::weighted(0.02);
    // Three of four mended: that is where the decoders are.
    (any::<Index>(), nothing, prop::collection::vec(mutation(), 1..=MUTATIONS_MAX), prop::bool::weighted(0.75))
        .prop_map(|(base, from_nothing, mutations, mended)| Recipe { base, from_nothing, mutations, mended })
}

impl Recipe {
    /// The input, out of this corpus; its checksums as the mutations left them.
    pub fn bytes(&self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = if self.from_nothing { Vec::new() } else { self.base.get(corpus).clone() };
        for mutation in &self.mutations {
            mutation.apply(&mut bytes, corpus);
            bytes.truncate(INPUT_BYTES_MAX);
        }
        bytes
    }
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        match self {
            Mutation::Insert(at, inserted) => insert(bytes, *at, inserted),
            Mutation::Splice(other, from, count, at) => {
                let other: &Vec<u8> = other.get(corpus);
                let part = part_of(other, *from, *count).to_vec();
                insert(bytes, *at, &part);
            }
            _ if bytes.is_empty() => {}
            Mutation::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Mutation::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Number(at, width, number) => width.write(bytes, *at, |_| *number),
            Mutation::Add(at, width, by) => width.write(bytes, *at, |number| number.wrapping_add(*by as u64)),
            Mutation::Everywhere(at, number) => everywhere(bytes, *at, &number.to_le_bytes()),
            Mutation::Delete(at, count) => {
                let at = at.index(bytes.len());
                drop(bytes.drain(at..bytes.len().min(at + count)));
            }
            Mutation::Copy(from, count, at) => {
                let part = part_of(bytes, *from, *count).to_vec();
                insert(bytes, *at, &part);
            }
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

impl Width {
    /// Replaces the number at a place; where fewer bytes are left, it is left alone.
    fn write(self, bytes: &mut [u8], at: Index, change: impl Fn(u64) -> u64) {
        let Some(places) = (bytes.len() + 1).checked_sub(self.bytes).filter(|places| *places > 0) else { return };
        let at = at.index(places);
        let field = &mut bytes[at..at + self.bytes];
        if self.big_endian {
            field.reverse();
        }
        let mut number = [0; 8];
        number[..self.bytes].copy_from_slice(field);
        field.copy_from_slice(&change(u64::from_le_bytes(number)).to_le_bytes()[..self.bytes]);
        if self.big_endian {
            field.reverse();
        }
    }
}

/// Replaces the eight bytes at a place, and the same ones elsewhere. Zeros stand for too much.
fn everywhere(bytes: &mut [u8], at: Index, number: &[u8; 8]) {
    let Some(places) = bytes.len().checked_sub(7).filter(|places| *places > 0) else { return };
    let at = at.index(places);
    let old: Vec<u8> = bytes[at..at + 8].to_vec();
    if old == [0; 8] {
        return;
    }
    let mut at = 0;
    while at < places {
        let found = bytes[at..at + 8] == old;
        if found {
            bytes[at..at + 8].copy_from_slice(number);
        }
        at += if found { 8 } else { 1 };
    }
}

fn insert(bytes: &mut Vec<u8>, at: Index, inserted: &[u8]) {
    let at = at.index(bytes.len() + 1);
    bytes.splice(at..at, inserted.iter().copied());
}

fn part_of(bytes: &[u8], from: Index, count: usize) -> &[u8] {
    let from = from.index(bytes.len() + 1);
    &bytes[from..bytes.len().min(from + count)]
}
