//! Notices what was lost between pods: every bulletin to a pod carries the next number. Pure.

use std::collections::HashMap;

use colloquy_storage::model::live::PodId;

/// What each publisher has said last.
#[derive(Debug, Default)]
pub struct Numbers {
    last: HashMap<PodId, (u64, u64)>,
}

impl Numbers {
    /// Takes in a bulletin's number; says whether none was lost before it. Of a series that was not heard before, none
    /// was if this is its first.
    pub fn follows(&mut self, from: &PodId, series: u64, number: u64) -> bool {
        match self.last.get_mut(from) {
            Some((same, last)) if *same == series => {
                let follows = number <= *last + 1;
                *last = number.max(*last);
                follows
            }
            _ => {
                self.last.insert(from.clone(), (series, number));
                number == 1
            }
        }
    }

    /// Keeps only what is known of these pods (BOUND).
    pub fn retain(&mut self, is_member: impl Fn(&PodId) -> bool) {
        self.last.retain(|pod_id, _| is_member(pod_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_left_out_is_noticed_once() {
        let (mut numbers, pod) = (Numbers::default(), PodId::new("a").unwrap());
        let heard = [(1, 1), (1, 2), (1, 2), (1, 4), (1, 5), (2, 1), (3, 9), (3, 10)];
        let follows: Vec<bool> =
            heard.iter().map(|(series, number)| numbers.follows(&pod, *series, *number)).collect();
        assert_eq!(follows, [true, true, true, false, true, true, false, true]);
    }
}
