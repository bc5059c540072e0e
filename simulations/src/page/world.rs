//! The page of a world: what befell it, how long texts took meanwhile, what supervision did, and what was checked.

use colloquy_actors::supervision::ExitReason;

use super::Page;
use super::lanes::{self, Span};
use super::plot::{Plot, Scale};
use crate::world::check::Invariant;
use crate::world::course::Outcome;
use crate::world::plan::Plan;
use crate::world::trace::Kind;

/// Writes it.
pub(crate) fn page(plan: &Plan, outcome: &Outcome) -> Page {
    let mut page = Page::new(format!("World {}", plan.seed));
    let violations = outcome.findings.violations.len();
    let checks: u64 = outcome.findings.checked.values().sum();
    let verdict = match violations {
        0 => format!("Every invariant held: {checks} checks."),
        count => format!("{count} of {checks} checks found an invariant broken."),
    };
    page.verdict(violations == 0, &verdict);
    let figures = &outcome.figures;
    page.tiles(&[
        ("pods", plan.pods.to_string()),
        ("people", plan.people.to_string()),
        ("of them agents", plan.agents.to_string()),
        ("devices", plan.devices.len().to_string()),
        ("texts", figures.texts.to_string()),
        ("faults of the plan", figures.planned_faults.to_string()),
        ("calls and signals befallen", figures.befallen.to_string()),
        ("connections", figures.connections.to_string()),
        ("forged answers", figures.forged.to_string()),
        ("turns given up and replayed", figures.replayed.to_string()),
        ("messages told again", figures.told_again.to_string()),
        ("messages not taken at first", figures.told_late.to_string()),
        ("text to answer, p50 / p99", format!("{} / {} ms", figures.delay_p50_ms, figures.delay_p99_ms)),
        ("its own time", format!("{:.1} s", figures.lasted_ms as f64 / 1e3)),
    ]);
    timeline(&mut page, plan, outcome);
    supervision(&mut page, outcome);
    invariants(&mut page, outcome);
    let line = |note: &crate::world::trace::Note| {
        let class = match note.kind {
            Kind::Fault => "fault",
            Kind::Repair => "repair",
            Kind::Violation => "violation",
            Kind::Device => "device",
            Kind::Phase => "phase",
        };
        (class, format!("{:>9.3}  {}", note.at_ms as f64 / 1e3, note.text))
    };
    page.lines("Everything that happened, line by line", outcome.notes.iter().map(line));
    page
}

fn timeline(page: &mut Page, plan: &Plan, outcome: &Outcome) {
    let end = outcome.figures.lasted_ms as f64 / 1e3;
    let began = outcome.faults_from_ms as f64 / 1e3;
    page.section(
        "What befell it, and how long texts took",
        "Above, faults where they struck and for as long as they lasted; point at one for what it was. Below, every \
         text that was answered, when it was written and how long its answer took, over the same time.",
    );
    let spans: Vec<Span> = plan
        .faults
        .iter()
        .map(|planned| {
            let from = began + planned.at.as_secs_f64();
            let lasted = planned.fault.lasts();
            Span {
                lane: planned.fault.place(),
                from,
                until: lasted.map(|length| from + length.as_secs_f64()),
                class: if lasted.is_some() { "wait" } else { "fault" },
                text: planned.fault.to_string(),
            }
        })
        .collect();
    let found: Vec<(f64, &str)> = outcome
        .notes
        .iter()
        .filter(|note| note.kind == Kind::Violation)
        .map(|note| (note.at_ms as f64 / 1e3, note.text.as_str()))
        .collect();
    page.drawing(&lanes::draw(&spans, &found, end));
    let slowest = outcome.delays.iter().map(|delay| delay.took_ms).max().unwrap_or(1);
    let mut plot = Plot::new((end, "s"), (slowest as f64, "ms"), Scale::Logarithmic);
    plot.dots(outcome.delays.iter().map(|delay| (delay.written_at_ms as f64 / 1e3, delay.took_ms as f64)));
    page.drawing(&plot.finish());
}

fn supervision(page: &mut Page, outcome: &Outcome) {
    page.section(
        "Supervision",
        "Over all pods and all of their lives: how actors of each kind ended, how many a supervisor started again, and \
         the most letters that waited in one mailbox.",
    );
    let mut head = vec!["actor".to_owned(), "restarts".to_owned()];
    head.extend(ExitReason::ALL.map(|reason| format!("{reason:?}").to_lowercase()));
    head.extend(["most waiting".to_owned(), "may wait".to_owned()]);
    let rows: Vec<Vec<String>> = outcome
        .supervision
        .iter()
        .map(|figures| {
            let mut row = vec![format!("{:?}", figures.kind), figures.restarts.to_string()];
            row.extend(figures.exits.map(|count| count.to_string()));
            row.extend([figures.peak_depth.to_string(), figures.capacity.to_string()]);
            row
        })
        .collect();
    page.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
}

fn invariants(page: &mut Page, outcome: &Outcome) {
    page.section(
        "Invariants",
        "What was looked at over the full record of the run, and how often it did not hold.",
    );
    let rows: Vec<Vec<String>> = Invariant::ALL
        .iter()
        .map(|invariant| {
            let violations = &outcome.findings.violations;
            let broken = violations.iter().filter(|violation| violation.invariant == *invariant);
            let first = broken.clone().next().map_or("", |violation| violation.text.as_str());
            vec![
                invariant.id().to_owned(),
                invariant.promise().to_owned(),
                outcome.findings.checked.get(invariant).copied().unwrap_or(0).to_string(),
                broken.count().to_string(),
                first.to_owned(),
            ]
        })
        .collect();
    page.table(&["invariant", "promises that", "checked", "broken", "first finding"], &rows);
}
