//! Shrinking: of a sequence in which two kernels differ, the shortest part that still does.
//!
//! Delta debugging on the list of operations, for several sequences at a time: all candidates of a
//! round run in one guest for each kernel, for a guest's start costs more than many sequences. The
//! last operation is the one that differs and stays.

use super::fuzz_guest::Sequence;
use crate::error::Result;

/// Rounds at most: each removes at least one operation, the first ones remove half.
const ROUNDS: usize = 14;

/// Says of each candidate at which operation it differs, if it does.
pub type Oracle<'a> = dyn Fn(&[Sequence]) -> Result<Vec<Option<usize>>> + 'a;

/// For each sequence the shortest one found that still differs.
pub fn shrink(from: &[Sequence], differs: &Oracle) -> Result<Vec<Sequence>> {
    let mut best = from.to_vec();
    let mut open: Vec<usize> = (0..from.len()).collect();
    for round in 0..ROUNDS {
        let mut asked = Vec::new();
        for &index in &open {
            let prefix = format!("{}/{round}", from[index].name);
            asked.extend(candidates(&best[index], &prefix).into_iter().map(|own| (index, own)));
        }
        if asked.is_empty() {
            break;
        }
        let list: Vec<Sequence> = asked.iter().map(|(_, own)| own.clone()).collect();
        let verdicts = differs(&list)?;
        let before: Vec<usize> = best.iter().map(|own| own.ops.len()).collect();
        for ((index, mut candidate), verdict) in asked.into_iter().zip(verdicts) {
            let Some(at) = verdict else { continue };
            candidate.ops.truncate(at + 1);
            if candidate.ops.len() < best[index].ops.len() {
                best[index] = candidate;
            }
        }
        open.retain(|index| best[*index].ops.len() < before[*index]);
    }
    for (short, from) in best.iter_mut().zip(from) {
        short.name = from.name.clone();
    }
    Ok(best)
}

/// Everything that comes of leaving out a part: three quarters, halves and so on down to single
/// operations and, of a short sequence, any two.
fn candidates(from: &Sequence, prefix: &str) -> Vec<Sequence> {
    // The last one stays.
    let count = from.ops.len().saturating_sub(1);
    let mut all = Vec::new();
    let mut add = |keep: &dyn Fn(usize) -> bool| {
        let kept = (0..=count).filter(|at| *at == count || keep(*at));
        let ops = kept.map(|at| from.ops[at].clone()).collect();
        all.push(Sequence { name: format!("{prefix}.{}", all.len()), ops });
    };
    let mut size = count / 2;
    while size > 0 {
        for start in (0..count).step_by(size) {
            let part = start..start + size;
            add(&|at| !part.contains(&at));
            if count > size * 2 {
                add(&|at| part.contains(&at));
            }
        }
        size /= 2;
    }
    if count == 1 {
        add(&|_| false);
    }
    if count <= 10 {
        for first in 0..count {
            (first + 1..count).for_each(|second| add(&|at| at != first && at != second));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_operations_that_belong_together_are_found_among_many() {
        let sequence = |name: &str| {
            let ops = (0..=31).map(|n| n.to_string()).collect();
            Sequence { name: name.into(), ops }
        };
        let oracle = |list: &[Sequence]| -> Result<Vec<Option<usize>>> {
            let at = |s: &Sequence, op: &str| s.ops.iter().position(|own| own == op);
            Ok(list.iter().map(|s| at(s, "7").and(at(s, "31"))).collect())
        };
        let found = shrink(&[sequence("s"), sequence("t")], &oracle).unwrap();
        assert_eq!(found[0].ops, ["7", "31"]);
        assert_eq!(found[1].ops, ["7", "31"]);
        assert_eq!(found[1].name, "t");
    }

    #[test]
    fn what_cannot_be_shortened_is_left_as_it_is() {
        let from = [Sequence { name: "s".into(), ops: vec!["a".into(), "b".into()] }];
        let all = |list: &[Sequence]| -> Result<Vec<Option<usize>>> {
            Ok(list.iter().map(|s| (s.ops.len() == 2).then_some(1)).collect())
        };
        assert_eq!(shrink(&from, &all).unwrap(), from);
    }
}
