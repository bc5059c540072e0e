//! What somebody wants, by the examples that agents have registered: nearest neighbours by the words and the parts of words
//! they share, weighed by how telling each is (TF-IDF and cosine; Manning, Raghavan and Schütze, "Introduction to Information
//! Retrieval", chapter 6). No network, no model, nothing to train but counting.

use std::collections::{BTreeMap, HashMap};

use colloquy_protocol::agent::IntentLabel;
use colloquy_protocol::limits::ROUTING_TEXT_MAX_CHARS;

/// A text that is less like every example than this says nothing.
pub const SCORE_MIN: f32 = 0.35;

/// Examples that are learnt in all.
pub const EXAMPLES_MAX: usize = 20_000;

/// Weight of a part of a word next to that of a whole one.
const PART_WEIGHT: f32 = 0.4;
const PART_CHARS: usize = 3;

/// What a text is taken to want.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// This.
    pub intent: IntentLabel,
    /// How like it is to the example it is most like: [`SCORE_MIN`] to 1.
    pub score: f32,
}

/// All examples, by what is in them.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    intents: Vec<IntentLabel>,
    /// Which intent each example stands for.
    examples: Vec<usize>,
    /// For each word or part of one: how telling it is, and the examples that have it.
    terms: HashMap<String, Term>,
}

#[derive(Clone, Debug, Default)]
struct Term {
    telling: f32,
    /// With its share of the example's whole weight.
    examples: Vec<(usize, f32)>,
}

impl Classifier {
    /// Learns these examples: the first [`EXAMPLES_MAX`].
    #[must_use]
    pub fn of<'a>(intents: impl IntoIterator<Item = (&'a IntentLabel, &'a [String])>) -> Self {
        let mut classifier = Self::default();
        let mut weights: Vec<BTreeMap<String, f32>> = Vec::new();
        for (label, examples) in intents {
            let intent = classifier.intents.iter().position(|known| known == label).unwrap_or_else(|| {
                classifier.intents.push(label.clone());
                classifier.intents.len() - 1
            });
            let room = EXAMPLES_MAX - classifier.examples.len();
            for example in examples.iter().take(room) {
                classifier.examples.push(intent);
                weights.push(terms_of(example));
            }
        }
        let count = weights.len() as f32;
        for term in weights.iter().flat_map(BTreeMap::keys) {
            classifier.terms.entry(term.clone()).or_default().telling += 1.0;
        }
        for term in classifier.terms.values_mut() {
            term.telling = (1.0 + count / term.telling).ln();
        }
        for (example, terms) in weights.iter().enumerate() {
            let telling = |term: &str| classifier.terms.get(term).map_or(0.0, |term| term.telling);
            let weighed: Vec<(&String, f32)> =
                terms.iter().map(|(term, weight)| (term, weight * telling(term))).collect();
            let length = length_of(weighed.iter().map(|(_, weight)| *weight));
            for (term, weight) in weighed {
                if let Some(term) = classifier.terms.get_mut(term) {
                    term.examples.push((example, weight / length));
                }
            }
        }
        classifier
    }

    /// What a text wants, if it is like any example.
    #[must_use]
    pub fn classify(&self, text: &str) -> Option<Guess> {
        let terms = terms_of(text);
        let weighed = terms.iter().map(|(term, weight)| {
            let known = self.terms.get(term);
            // What no example has is as telling as can be: it makes the text less like all of them.
            let telling =
                known.map_or_else(|| (1.0 + self.examples.len() as f32).ln(), |known| known.telling);
            (known, weight * telling)
        });
        let weighed: Vec<(Option<&Term>, f32)> = weighed.collect();
        let length = length_of(weighed.iter().map(|(_, weight)| *weight));
        let mut likeness = vec![0.0_f32; self.examples.len()];
        for (term, weight) in &weighed {
            for (example, share) in term.iter().flat_map(|term| &term.examples) {
                likeness[*example] += share * weight / length;
            }
        }
        // Of equals the first that was learnt.
        let best = likeness.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let (example, score) = best;
        let intent = self.intents[self.examples[example]].clone();
        (*score >= SCORE_MIN).then_some(Guess { intent, score: score.min(1.0) })
    }
}

/// The words of a text and their parts, and how much each counts.
fn terms_of(text: &str) -> BTreeMap<String, f32> {
    let text: String = text.chars().take(ROUTING_TEXT_MAX_CHARS).flat_map(char::to_lowercase).collect();
    let mut terms: BTreeMap<String, f32> = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *terms.entry(word.to_owned()).or_default() += 1.0;
        // With its ends, which a whole word cannot be taken for.
        let framed: Vec<char> = std::iter::once(' ').chain(word.chars()).chain([' ']).collect();
        for part in framed.windows(PART_CHARS) {
            *terms.entry(format!("\u{1}{}", part.iter().collect::<String>())).or_default() += PART_WEIGHT;
        }
    }
    // Said twice is not twice as true.
    terms.values_mut().for_each(|weight| *weight = (1.0 + *weight).ln());
    terms
}

fn length_of(weights: impl Iterator<Item = f32>) -> f32 {
    weights.map(|weight| weight * weight).sum::<f32>().sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLES: [(&str, &[&str]); 4] = [
        (
            "book-appointment",
            &["I want an appointment", "can I come on Tuesday", "book a visit with the doctor"],
        ),
        ("opening-hours", &["when are you open", "what are your opening hours", "are you open on Sunday"]),
        ("refund", &["I want my money back", "please refund my order", "how do I return this"]),
        ("greeting", &["hello", "good morning", "hi there"]),
    ];

    fn classifier() -> Classifier {
        let intents: Vec<(IntentLabel, Vec<String>)> = EXAMPLES
            .iter()
            .map(|(label, examples)| {
                let examples = examples.iter().map(|example| (*example).to_owned()).collect();
                (IntentLabel::new(label).unwrap(), examples)
            })
            .collect();
        Classifier::of(intents.iter().map(|(label, examples)| (label, examples.as_slice())))
    }

    #[test]
    fn what_is_said_in_other_words_is_understood() {
        let classifier = classifier();
        for (text, label) in [
            ("Could I book an appointment, please?", "book-appointment"),
            ("an appointment with the doctor on Tuesday", "book-appointment"),
            ("Opening hours?", "opening-hours"),
            ("are you open today", "opening-hours"),
            ("I would like a refund of my order", "refund"),
            ("refunds: how do I return it", "refund"),
            ("Hello!", "greeting"),
            ("good mornin", "greeting"),
        ] {
            let guess = classifier.classify(text).unwrap_or_else(|| panic!("{text}: nothing"));
            assert_eq!(guess.intent.as_str(), label, "{text}: {}", guess.score);
        }
    }

    #[test]
    fn an_example_is_itself_and_what_is_like_none_says_nothing() {
        let classifier = classifier();
        for (label, examples) in EXAMPLES {
            for example in examples {
                let guess = classifier.classify(example).unwrap();
                assert_eq!(guess.intent.as_str(), label);
                assert!(guess.score > 0.999, "{example}: {}", guess.score);
            }
        }
        for text in ["", "?!", "xyzzy", "quantum chromodynamics lattice", "日本語"] {
            assert_eq!(classifier.classify(text), None, "{text}");
        }
        assert_eq!(Classifier::default().classify("hello"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_guess_is_the_same_each_time(text in ".{0,200}") {
            let (one, other) = (classifier(), classifier());
            let guesses = (one.classify(&text), other.classify(&text));
            prop_assert_eq!(guesses.0.map(|guess| guess.intent), guesses.1.map(|guess| guess.intent));
        }
    }
}
