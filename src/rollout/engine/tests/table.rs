//! The table of verbs: the code does what it says, and the documentation shows the same.

use super::rig::{Rig, target};
use crate::rollout::engine::commands::{Ruling, ruling};
use crate::rollout::engine::{Event, Phase, Verb};

#[test]
fn every_verb_in_every_phase_is_done_or_refused_as_the_table_says() {
    for phase in Phase::ALL {
        for verb in Verb::ALL {
            let mut rig = Rig::at(phase);
            let state = rig.state.clone();
            let said = match verb {
                Verb::Start => {
                    rig.try_event(Event::Start { target: target("v4"), by: "ada".into(), reason: String::new() })
                }
                _ => rig.say(verb),
            };
            match ruling(phase, verb) {
                Ruling::Does => assert!(said.is_ok(), "{} in {phase}: {said:?}", verb.as_str()),
                Ruling::Refuses(reason) => {
                    let refused = said.expect_err(verb.as_str());
                    assert_eq!((refused.phase, refused.verb, refused.reason.as_str()), (phase, verb, reason));
                    assert_eq!(rig.state, state, "a refusal changes nothing");
                }
            }
        }
    }
}

#[test]
fn the_documentation_shows_the_table() {
    let text = include_str!("../commands.rs");
    let order = [
        Phase::Idle,
        Phase::Waiting,
        Phase::Progressing,
        Phase::Baking,
        Phase::Promoting,
        Phase::Succeeded,
        Phase::RollingBack,
        Phase::RolledBack,
        Phase::Paused,
        Phase::Aborted,
    ];
    let head: Vec<&str> = order.iter().map(|phase| phase.as_str()).collect();
    assert!(text.contains(&format!("//! | verb | {} |", head.join(" | "))));
    for verb in Verb::ALL {
        let cells = order.map(|phase| if ruling(phase, verb) == Ruling::Does { "yes" } else { "–" });
        let row = format!("//! | {} | {} |", verb.as_str(), cells.join(" | "));
        assert!(text.contains(&row), "{row}");
    }
}
