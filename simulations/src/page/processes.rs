//! The page of real pods under faults: what befell them, how long messages took meanwhile, what supervision did, and what
//! was checked.

use colloquy_actors::supervision::{ActorKind, ExitReason};
use colloquy_tests::account::Account;
use colloquy_tests::metrics::{Sample, sum};
use tokio::time::Instant;

use super::Page;
use super::lanes::{self, Span};
use super::plot::{Plot, Scale};
use crate::processes::Judgement;

/// What is to be shown.
pub(crate) struct Processes<'a> {
    pub(crate) seed: u64,
    pub(crate) began: Instant,
    /// Every fault, and the end.
    pub(crate) spans: &'a [Span],
    /// What couriers did and had to wait for.
    pub(crate) account: &'a Account,
    /// Or what did not hold.
    pub(crate) judgement: Result<Judgement, &'a str>,
    /// What every pod says of itself in the end.
    pub(crate) samples: &'a [Sample],
}

/// What is proved over the full record if nothing fails.
const PROMISES: [(&str, &str); 5] = [
    ("ORDER", "numbers are 1..n in every log, and every client was shown them in that order"),
    ("ONCE", "as many messages stand in the logs as were sent, under one number each"),
    ("NOLOSS", "everything that was acked stands in a log, and both sides of its conversation hold it"),
    ("FENCE", "no number was given twice, whoever owned a conversation"),
    ("ORDER, NOLOSS", "no pod has seen one of them broken itself"),
];

/// Writes it.
pub(crate) fn page(of: &Processes<'_>) -> Page {
    let mut page = Page::new(format!("Three pods, seed {}", of.seed));
    match of.judgement {
        Ok(Judgement { logged, .. }) => {
            page.verdict(true, &format!("Every invariant held over the full record of {logged} messages."));
        }
        Err(found) => page.verdict(false, found),
    }
    let Account { sent, acked, sendings, shown, delays, .. } = of.account;
    let of_ms = |share| delays.quantile(share).as_millis();
    let times = of.account.reconnect_times();
    let mut tiles = vec![
        ("faults", of.spans.len().to_string()),
        ("sent", sent.to_string()),
        ("sent again", sendings.saturating_sub(*sent).to_string()),
        ("acked", acked.to_string()),
        ("shown", shown.to_string()),
        ("send to ack, p50 / p99", format!("{} / {} ms", of_ms(0.5), of_ms(0.99))),
        (
            "reconnect, p50 / p99",
            format!("{} / {} ms", times.quantile(0.5).as_millis(), times.quantile(0.99).as_millis()),
        ),
    ];
    if let Ok(Judgement { settled, .. }) = of.judgement {
        tiles.push(("quiet after the last fault", format!("{settled:.1} s")));
    }
    page.tiles(&tiles);
    timeline(&mut page, of);
    supervision(&mut page, of.samples);
    page.section("Invariants", "What is looked at in the end, over everything that clients and logs hold.");
    let held = if of.judgement.is_ok() { "held" } else { "see above" };
    let rows: Vec<Vec<String>> = PROMISES
        .iter()
        .map(|(id, promise)| vec![(*id).to_owned(), (*promise).to_owned(), held.to_owned()])
        .collect();
    page.table(&["invariant", "promises that", "found"], &rows);
    page
}

fn timeline(page: &mut Page, of: &Processes<'_>) {
    page.section(
        "What befell them, and how long messages took",
        "Above, faults where they struck and for as long as they lasted; point at one for what it was. Below, every \
         message, when it was due and how long its ack took, over the same time.",
    );
    let dots: Vec<(f64, f64)> = of
        .account
        .timed
        .iter()
        .map(|delay| ((delay.due - of.began).as_secs_f64(), delay.took.as_secs_f64() * 1e3))
        .collect();
    let last_fault = of.spans.iter().map(|span| span.until.unwrap_or(span.from));
    let end = dots.iter().map(|dot| dot.0).chain(last_fault).fold(1.0, f64::max);
    let slowest = dots.iter().map(|dot| dot.1).fold(1.0, f64::max);
    page.drawing(&lanes::draw(of.spans, &[], end));
    let mut plot = Plot::new((end, "s"), (slowest, "ms"), Scale::Logarithmic);
    plot.dots(dots.into_iter());
    page.drawing(&plot.finish());
}

fn supervision(page: &mut Page, samples: &[Sample]) {
    page.section(
        "Supervision",
        "Over all pods, since each was started last: how actors of each kind ended, how many a supervisor started again, \
         and the most letters that waited in one mailbox.",
    );
    let mut head = vec!["actor".to_owned(), "restarts".to_owned()];
    head.extend(ExitReason::ALL.map(|reason| format!("{reason:?}").to_lowercase()));
    head.push("most waiting".to_owned());
    let row = |kind: &ActorKind| {
        let kind = format!("{kind:?}");
        let count = |name, labels: &[(&str, &str)]| format!("{:.0}", sum(samples, name, labels).abs());
        let mut row = vec![kind.clone(), count("colloquy_actor_restarts_total", &[("kind", &kind)])];
        row.extend(ExitReason::ALL.map(|reason| {
            count("colloquy_actor_exits_total", &[("kind", &kind), ("reason", &format!("{reason:?}"))])
        }));
        let of_kind = |sample: &&Sample| {
            sample.name == "colloquy_mailbox_peak_depth" && sample.label("kind") == Some(kind.as_str())
        };
        let peak = samples.iter().filter(of_kind).map(|sample| sample.value).fold(0.0, f64::max);
        row.push(format!("{peak:.0}"));
        row
    };
    let rows: Vec<Vec<String>> = ActorKind::ALL.iter().map(row).collect();
    page.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
}
