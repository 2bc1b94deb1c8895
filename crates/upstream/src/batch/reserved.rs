//! Tokens that limits of a provider have reserved for a batch call, told by its members what each of them used.

use std::sync::Arc;

use farthing_types::Reserved;
use parking_lot::Mutex;

/// The part of one member. When the last part is gone, the whole is told what all have used; where one was not told, nothing of it is given back.
pub struct Share {
    whole: Arc<Mutex<Whole>>,
    told: bool,
}

struct Whole {
    reserved: Option<Box<dyn Reserved>>,
    used: u64,
    left: usize,
    known: bool,
}

impl Share {
    /// A part for each of so many members.
    pub fn of(reserved: Box<dyn Reserved>, members: usize) -> Vec<Self> {
        let whole = Arc::new(Mutex::new(Whole { reserved: Some(reserved), used: 0, left: members, known: true }));
        (0..members).map(|_| Self { whole: whole.clone(), told: false }).collect()
    }
}

impl Reserved for Share {
    fn used(mut self: Box<Self>, tokens: u64) {
        let mut whole = self.whole.lock();
        whole.used = whole.used.saturating_add(tokens);
        drop(whole);
        self.told = true;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut whole = self.whole.lock();
        whole.left = whole.left.saturating_sub(1);
        whole.known &= self.told;
        if whole.left > 0 {
            return;
        }
        let (reserved, used) = (whole.reserved.take(), whole.used);
        let known = whole.known;
        // What hears it takes locks of its own.
        drop(whole);
        if let Some(reserved) = reserved.filter(|_| known) {
            reserved.used(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(Arc<Mutex<Vec<Option<u64>>>>, bool);

    impl Reserved for Told {
        fn used(mut self: Box<Self>, tokens: u64) {
            self.1 = true;
            self.0.lock().push(Some(tokens));
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            if !self.1 {
                self.0.lock().push(None);
            }
        }
    }

    /// What the whole is told after each part was told this, in order; `None` is not told.
    fn told(parts: &[Option<u64>]) -> Vec<Option<u64>> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        for (share, part) in Share::of(Box::new(Told(heard.clone(), false)), parts.len()).into_iter().zip(parts) {
            assert_eq!(*heard.lock(), [], "not before all are done");
            match part {
                Some(tokens) => Box::new(share).used(*tokens),
                None => drop(share),
            }
        }
        heard.lock().clone()
    }

    #[test]
    fn the_whole_is_told_the_sum_once_where_all_of_it_is_known() {
        assert_eq!(told(&[Some(1), Some(0), Some(4)]), [Some(5)]);
        assert_eq!(told(&[Some(u64::MAX), Some(4)]), [Some(u64::MAX)]);
        assert_eq!(told(&[Some(1), None, Some(4)]), [None]);
        assert_eq!(told(&[None]), [None]);
    }
}
