//! The page of many worlds: what was found, over all of them and in each.

use super::Page;
use super::plot::{Plot, Scale};
use crate::apart::{Report, checks_of};
use crate::world::check::Invariant;

/// What is to be shown of many worlds.
pub(crate) struct Worlds<'a> {
    /// In the order of their seeds.
    pub(crate) reports: &'a [Report],
    /// Seeds of worlds that came to no end.
    pub(crate) broken: &'a [u64],
    /// Seconds of the machine's time, from the first to the last.
    pub(crate) took: f64,
}

/// Writes it.
pub(crate) fn page(worlds: &Worlds<'_>) -> Page {
    let Worlds { reports, broken, took } = worlds;
    let bad = reports.iter().filter(|report| !report.violations.is_empty()).count() + broken.len();
    let mut page = Page::new(format!("{} worlds", reports.len() + broken.len()));
    let checks: u64 = reports.iter().flat_map(|report| report.checked.values()).sum();
    let verdict = match bad {
        0 => format!("Every invariant held in every world: {checks} checks."),
        count => format!("{count} worlds found something, in {checks} checks."),
    };
    page.verdict(bad == 0, &verdict);
    let sum = |figure: fn(&Report) -> u64| reports.iter().map(figure).sum::<u64>();
    page.tiles(&[
        ("texts", sum(|it| it.figures.texts).to_string()),
        ("messages", sum(|it| it.figures.messages).to_string()),
        ("faults of the plans", sum(|it| it.figures.planned_faults).to_string()),
        ("calls and signals befallen", sum(|it| it.figures.befallen).to_string()),
        ("connections", sum(|it| it.figures.connections).to_string()),
        ("forged answers", sum(|it| it.figures.forged).to_string()),
        ("turns given up and replayed", sum(|it| it.figures.replayed).to_string()),
        ("messages told again", sum(|it| it.figures.told_again).to_string()),
        ("messages not taken at first", sum(|it| it.figures.told_late).to_string()),
        ("their own time", format!("{:.0} s", sum(|it| it.figures.lasted_ms) as f64 / 1e3)),
        ("the machine's", format!("{took:.0} s")),
    ]);
    page.section(
        "Invariants",
        "What was looked at over the full record of every world, and how often it did not hold.",
    );
    let counts = checks_of(reports);
    let rows: Vec<Vec<String>> = Invariant::ALL
        .iter()
        .map(|invariant| {
            let (checked, violated) = counts.get(invariant.id()).copied().unwrap_or_default();
            vec![
                invariant.id().to_owned(),
                invariant.promise().to_owned(),
                checked.to_string(),
                violated.to_string(),
            ]
        })
        .collect();
    page.table(&["invariant", "promises that", "checked", "broken"], &rows);
    page.section(
        "How long texts took",
        "For each world the 99th percentile from writing a text to its answer: what the worst of its faults cost.",
    );
    let last = reports.iter().map(|report| report.seed).max().unwrap_or(1);
    let slowest = reports.iter().map(|report| report.figures.delay_p99_ms).max().unwrap_or(1);
    let mut plot = Plot::new((last as f64, ""), (slowest as f64, "ms"), Scale::Logarithmic);
    plot.dots(reports.iter().map(|report| (report.seed as f64, report.figures.delay_p99_ms as f64)));
    page.drawing(&plot.finish());
    page.section("Each world", "What one of them did is shown by `report --seed` with its number.");
    let row = |report: &Report| {
        let figures = &report.figures;
        vec![
            report.seed.to_string(),
            figures.texts.to_string(),
            figures.planned_faults.to_string(),
            figures.befallen.to_string(),
            figures.connections.to_string(),
            figures.delay_p50_ms.to_string(),
            figures.delay_p99_ms.to_string(),
            format!("{:.1} s", figures.lasted_ms as f64 / 1e3),
            format!("{:.1} s", report.wall_ms as f64 / 1e3),
            report.violations.len().to_string(),
            report.violations.first().cloned().unwrap_or_default(),
        ]
    };
    let mut rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    rows.extend(broken.iter().map(|seed| {
        let mut row = vec![seed.to_string()];
        row.resize(10, String::new());
        row.push("came to no end".to_owned());
        row
    }));
    page.table(
        &[
            "seed",
            "texts",
            "planned",
            "befallen",
            "connections",
            "p50 ms",
            "p99 ms",
            "its time",
            "the machine's",
            "broken",
            "first finding",
        ],
        &rows,
    );
    page
}
