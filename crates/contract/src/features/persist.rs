//! Live statistics as bytes: little-endian fields in the order of their declaration.

use farthing_types::Time;

/// What can be written to bytes and read back exactly.
pub(crate) trait Persist: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// Reads from the front of `from`. `None` when it is too short, or holds what no statistics can hold (a number that is not finite).
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($t:ty),+) => { $(impl Persist for $t {
        fn put(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
        fn take(from: &mut &[u8]) -> Option<Self> {
            let (head, rest) = from.split_first_chunk()?;
            *from = rest;
            Some(Self::from_le_bytes(*head))
        }
    })+ };
}
numbers!(u16, u32, u64, i64);

macro_rules! floats {
    ($($t:ty),+) => { $(impl Persist for $t {
        fn put(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
        fn take(from: &mut &[u8]) -> Option<Self> {
            let (head, rest) = from.split_first_chunk()?;
            *from = rest;
            Some(Self::from_le_bytes(*head)).filter(|number| number.is_finite())
        }
    })+ };
}
floats!(f32, f64);

impl Persist for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let (head, rest) = from.split_first()?;
        *from = rest;
        Some(*head != 0)
    }
}

impl Persist for Time {
    fn put(&self, out: &mut Vec<u8>) {
        self.nanos().put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        i64::take(from).map(Self::from_nanos)
    }
}

impl<T: Persist + Default + Copy, const N: usize> Persist for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.put(out));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::take(from)?;
        }
        Some(items)
    }
}

/// Every field of a struct, in this order: one that is forgotten does not compile. To add a field, raise
/// [`crate::statistics::LAYOUT`].
macro_rules! persist {
    ($name:ident $(<const $n:ident: usize>)? { $($field:ident),+ $(,)? }) => {
        impl $(<const $n: usize>)? $crate::features::persist::Persist for $name $(<$n>)? {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($crate::features::persist::Persist::put($field, out);)+
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                $(let $field = $crate::features::persist::Persist::take(from)?;)+
                Some(Self { $($field),+ })
            }
        }
    };
}
pub(crate) use persist;
