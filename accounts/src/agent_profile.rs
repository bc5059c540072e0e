//! The form of what an agent says of itself.

use std::collections::BTreeSet;

use colloquy_protocol::agent::{AgentProfile, Intent};
use colloquy_protocol::limits::{
    AGENT_DESCRIPTION_MAX_CHARS, AGENT_PROFILE_MAX_BYTES, AGENT_VERSION_MAX_BYTES, CAPABILITIES_MAX,
    EXAMPLE_MAX_CHARS, EXAMPLES_MAX, INTENTS_MAX, NAME_MAX_CHARS, TURN_TIMEOUT_MAX, TURN_TIMEOUT_MIN,
    TURNS_AT_ONCE_MAX,
};

use crate::invalid_field::InvalidField;
use crate::profile::parse_name;
use crate::sink::SinkHosts;

/// The profile, trimmed where that changes nothing.
///
/// # Errors
/// [`InvalidField`] names the rule.
pub fn parse_agent_profile(
    mut profile: AgentProfile,
    hosts: &SinkHosts,
) -> Result<AgentProfile, InvalidField> {
    profile.name = parse_name(&profile.name)?;
    let fits = profile.description.chars().count() <= AGENT_DESCRIPTION_MAX_CHARS;
    require(fits, "description", "at most 2000 characters")?;
    let version = profile.version.as_str();
    let fits = (1..=AGENT_VERSION_MAX_BYTES).contains(&version.len());
    let is_visible = version.bytes().all(|b| b.is_ascii_graphic());
    require(fits && is_visible, "version", "1 to 64 visible ASCII characters")?;
    let owner = &profile.owner;
    let fits = owner.chars().count() <= NAME_MAX_CHARS && !owner.chars().any(char::is_control);
    require(fits, "owner", "at most 100 characters, no control characters")?;
    let distinct: BTreeSet<_> = profile.capabilities.iter().collect();
    let fits = distinct.len() == profile.capabilities.len() && distinct.len() <= CAPABILITIES_MAX;
    require(fits, "capabilities", "at most 32, each once")?;
    let labels: BTreeSet<_> = profile.intents.iter().map(|intent| &intent.label).collect();
    let fits = labels.len() == profile.intents.len() && labels.len() <= INTENTS_MAX;
    require(fits, "intents", "at most 64, each label once")?;
    for intent in &profile.intents {
        check_examples(intent)?;
    }
    let bytes = serde_json::to_vec(&profile).map_or(usize::MAX, |json| json.len());
    require(bytes <= AGENT_PROFILE_MAX_BYTES, "intents", "at most 48 KiB in all")?;
    hosts.check(&profile.sink)?;
    let limits = profile.limits;
    let fits = (1..=TURNS_AT_ONCE_MAX).contains(&limits.turns_at_once);
    require(fits, "limits.turns_at_once", "1 to 1024")?;
    let timeout = std::time::Duration::from_millis(limits.turn_timeout_ms);
    let fits = (TURN_TIMEOUT_MIN..=TURN_TIMEOUT_MAX).contains(&timeout);
    require(fits, "limits.turn_timeout_ms", "1000 to 3600000")?;
    Ok(profile)
}

fn check_examples(intent: &Intent) -> Result<(), InvalidField> {
    let is_said = |example: &String| {
        !example.trim().is_empty()
            && example.chars().count() <= EXAMPLE_MAX_CHARS
            && !example.chars().any(char::is_control)
    };
    let fits = (1..=EXAMPLES_MAX).contains(&intent.examples.len()) && intent.examples.iter().all(is_said);
    require(fits, "intents.examples", "1 to 32 utterances of 1 to 200 characters, no control characters")
}

fn require(holds: bool, field: &'static str, rule: &'static str) -> Result<(), InvalidField> {
    if holds { Ok(()) } else { Err(InvalidField::new(field, rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::agent::{Capability, IntentLabel};

    fn good() -> AgentProfile {
        AgentProfile::new(" Bruno ", "http://127.0.0.1:9000/")
    }

    fn intent(label: &str, examples: &[&str]) -> Intent {
        let examples = examples.iter().map(|example| (*example).to_owned()).collect();
        Intent { label: IntentLabel::new(label).unwrap(), examples }
    }

    #[test]
    fn each_bad_value_is_refused_by_name() {
        let hosts = SinkHosts::parse(&["127.0.0.1"]).unwrap();
        assert_eq!(parse_agent_profile(good(), &hosts).unwrap().name, "Bruno");
        type Spoil = fn(&mut AgentProfile);
        let cases: [(&str, Spoil); 14] = [
            ("name", |p| p.name = " ".into()),
            ("description", |p| p.description = "x".repeat(AGENT_DESCRIPTION_MAX_CHARS + 1)),
            ("version", |p| p.version = String::new()),
            ("version", |p| p.version = "1 0".into()),
            ("owner", |p| p.owner = "a\nb".into()),
            ("capabilities", |p| p.capabilities = vec![Capability::new("a").unwrap(); 2]),
            ("intents", |p| p.intents = vec![intent("a", &["x"]), intent("a", &["y"])]),
            ("intents.examples", |p| p.intents = vec![intent("a", &[])]),
            ("intents.examples", |p| p.intents = vec![intent("a", &["  "])]),
            ("intents.examples", |p| p.intents = vec![intent("a", &[&"x".repeat(EXAMPLE_MAX_CHARS + 1)])]),
            ("sink", |p| p.sink = "http://10.0.0.1/".into()),
            ("limits.turns_at_once", |p| p.limits.turns_at_once = 0),
            ("limits.turns_at_once", |p| p.limits.turns_at_once = TURNS_AT_ONCE_MAX + 1),
            ("limits.turn_timeout_ms", |p| p.limits.turn_timeout_ms = 999),
        ];
        for (field, spoil) in cases {
            let mut bad = good();
            spoil(&mut bad);
            assert_eq!(parse_agent_profile(bad, &hosts).map_err(|error| error.field), Err(field));
        }
    }
}
