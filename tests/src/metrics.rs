//! The text that a scrape of `/metrics` gives (OpenMetrics or Prometheus), as far as tests read it.

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name, with its suffix.
    pub name: String,
    /// Labels as they stand between the braces.
    pub labels: String,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of one label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        // Our label values hold neither commas nor quotes: they are kinds, reasons and codes.
        self.labels.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim_matches('"'))
        })
    }
}

/// Every sample of a scrape, in its order.
#[must_use]
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = match line.find('}') {
        Some(end) => (&line[..end], line[end + 1..].split_whitespace().next()?),
        None => {
            let mut words = line.split_whitespace();
            (words.next()?, words.next()?)
        }
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value: value.parse().ok()? })
}

/// The sum of all samples called `name` whose labels hold each of `labels`.
#[must_use]
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &&Sample| {
        sample.name == name && labels.iter().all(|(key, value)| sample.label(key) == Some(value))
    };
    samples.iter().filter(fits).map(|sample| sample.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = "# TYPE exits counter\nexits_total{kind=\"session\",reason=\"stopped\"} 3\n\
                          exits_total{kind=\"conversation\",reason=\"panicked\"} 1\nopen 7.5\n# EOF\n";

    #[test]
    fn a_scrape_is_read_line_by_line() {
        let read = samples(SCRAPE);
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].label("reason"), Some("panicked"));
        assert!((sum(&read, "exits_total", &[]) - 4.0).abs() < f64::EPSILON);
        assert!((sum(&read, "exits_total", &[("kind", "session")]) - 3.0).abs() < f64::EPSILON);
        assert!((sum(&read, "open", &[]) - 7.5).abs() < f64::EPSILON);
    }
}
