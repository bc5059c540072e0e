//! Which of a world's faults it takes to find what it has found. Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input" (IEEE Transactions on Software Engineering 28(2), 2002), section 3: ddmin.

use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::apart::{Ended, Only, WorldApart};
use crate::world::plan::Plan;

/// Leaves out faults of a world that has found something for as long as it still finds something, in at most `runs` runs.
/// Returns what there is to read: how to run it, and what happens then.
///
/// # Errors
/// A process could not be started.
pub(crate) async fn shrink(world: WorldApart, runs: usize, jobs: usize) -> Result<String, Failure> {
    let bar = ProgressBar::new(runs as u64);
    bar.set_style(ProgressStyle::with_template("shrinking: {pos}/{len} worlds, {elapsed}  {msg}")?);
    let planned = Plan::draw(world.seed, world.size).faults.len();
    let with = |only: Vec<usize>| WorldApart { only: Some(Only(only)), ..world.clone() };
    let mut kept: Vec<usize> = (0..planned).collect();
    let mut parts = 1;
    while (bar.position() as usize) < runs {
        bar.set_message(format!("{} of {planned} faults", kept.len()));
        let smaller = without_a_part(&kept, parts);
        let tried = smaller.into_iter().map(|only| async {
            let ended = with(only.clone()).run().await?;
            Ok::<_, Failure>((
                only,
                matches!(ended, Ended::Reported(report) if !report.violations.is_empty()),
            ))
        });
        // In order, so that the same world shrinks to the same faults every time.
        let mut tried = stream::iter(tried).buffered(jobs.max(1));
        let mut found = None;
        while let (None, Some(run)) = (&found, tried.next().await) {
            bar.inc(1);
            let (only, finds_it) = run?;
            found = finds_it.then_some(only);
        }
        match found {
            Some(only) => {
                kept = only;
                parts = if parts == 1 { kept.len() } else { (parts - 1).max(2) };
            }
            None if parts >= kept.len() => break,
            None => parts = (parts * 2).min(kept.len()),
        }
        if kept.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    let smallest = with(kept.clone());
    let timeline = smallest.timeline().await?;
    let arguments = smallest.arguments().join(" ");
    Ok(format!("with {} of {planned} faults: {arguments}\n\n{timeline}", kept.len()))
}

/// `all` without each of its `parts` parts; one part is all of it.
fn without_a_part(all: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let size = all.len().div_ceil(parts.max(1)).max(1);
    let starts = (0..all.len().max(1)).step_by(size);
    let without = |start: usize| {
        let end = (start + size).min(all.len());
        all[..start].iter().chain(&all[end..]).copied().collect()
    };
    starts.map(without).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_left_out_once() {
        assert_eq!(without_a_part(&[1, 2, 3, 4, 5], 2), [vec![4, 5], vec![1, 2, 3]]);
        assert_eq!(without_a_part(&[1, 2, 3], 3), [vec![2, 3], vec![1, 3], vec![1, 2]]);
        assert_eq!(without_a_part(&[1, 2], 1), [Vec::<usize>::new()]);
    }
}
