use super::*;
use crate::rollout::evidence::Blocks;
use crate::rollout::plan::Errors;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sample() -> Sample {
    Sample {
        covered: ms(10_003),
        successes: 90,
        client_errors: 5,
        server_errors: 4,
        grpc_failures: 1,
        client_closed: 1,
        own: vec![("connect", 2)],
        buckets: vec![80, 0, 0, 17, 0, 0, 3],
        abandoned: vec![0, 0, 0, 0, 1, 0, 0],
        edges: [1, 5, 20, 100, 500, 2_500].map(ms).into(),
        endpoints: vec![
            EndpointTally { id: 7, name: "10.0.0.2:80".into(), tally: Tally { requests: 60, bad: 1 } },
            EndpointTally { id: 3, name: "10.0.0.1:80".into(), tally: Tally { requests: 40, bad: 4 } },
            EndpointTally { id: 4, name: "10.0.0.3:80".into(), tally: Tally::default() },
        ],
        clients: Vec::new(),
    }
}

fn read(text: &str) -> RecordedCounts {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_was_written_says_the_same_to_every_question() {
    let questions = [
        Question::Errors(Errors::default()),
        Question::Errors(Errors { client_errors: true, client_closed: true }),
        Question::Abandoned,
        Question::Slower(ms(500)),
        Question::Slower(ms(2_500)),
        Question::Slower(ms(60)),
    ];
    let seen = Samples { canary: sample(), stable: Sample { buckets: vec![0; 7], ..sample() } };
    let counts = RecordedCounts::of(&seen, &questions[..4], &Blocks::default(), Some("others fail".to_owned()));
    let text = serde_json::to_string(&counts).unwrap();
    assert!(text.len() < 1_000, "{} bytes: {text}", text.len());
    let counts = read(&text);
    // Another line has another edge.
    let other = read(r#"{"seconds":1,"canary":{"durations":[[0.25,3]]},"stable":{}}"#);
    let layout = HistoryLayout::of([&counts, &other].into_iter());
    let back = layout.samples(&counts);
    for question in questions {
        assert_eq!(question.tally(&back.canary), question.tally(&seen.canary), "{question:?}");
        assert_eq!(question.tally(&back.stable), question.tally(&seen.stable), "{question:?}");
    }
    assert_eq!(back.canary.quantile(0.9), seen.canary.quantile(0.9));
    assert!(back.canary.is_exact(ms(500)) && back.canary.is_exact(ms(2_500)));
    let endpoints: Vec<_> =
        back.canary.endpoints.iter().map(|endpoint| (&*endpoint.name, endpoint.tally.bad)).collect();
    assert_eq!(endpoints, [("10.0.0.1:80", 4), ("10.0.0.2:80", 1)]);
    assert_eq!((counts.covered(), counts.shared_failure()), (ms(10_003), Some("others fail")));
    assert!(counts.knows(questions[3]) && !counts.knows(questions[4]));
}

#[test]
fn lines_add_up_and_a_part_of_one_is_a_part_of_its_requests() {
    let seen = Samples { canary: sample(), stable: sample() };
    let counts = RecordedCounts::of(&seen, &[], &Blocks::default(), None);
    let layout = HistoryLayout::of([&counts].into_iter());
    let line = layout.samples(&counts);
    let question = Question::Errors(Errors::default());
    let mut totals = Samples::default();
    for lines in 1..=3 {
        let half = totals.with_part(&line, 1, 2);
        totals = totals.with_part(&line, 1, 1);
        assert_eq!(question.tally(&totals.canary).requests, lines * 99);
        let since = half.since(&totals, Duration::ZERO);
        assert_eq!(question.tally(&since.canary), Tally::default(), "it is less");
        assert!(question.tally(&half.canary).requests <= lines * 99 - 49);
    }
    assert_eq!(totals.canary.slower(ms(500)), Tally { requests: 300, bad: 12 });
    assert_eq!(totals.canary.endpoints.iter().map(|endpoint| endpoint.tally.requests).sum::<u64>(), 300);
}

#[test]
fn what_nobody_can_have_counted_is_no_fault() {
    let hostile = read(
        r#"{"seconds":-1e300,"canary":{"successes":18446744073709551615,"server_errors":18446744073709551615,
        "durations":[[-1,18446744073709551615],[1e300,2],[0.5,18446744073709551615],[null,9]],
        "endpoints":[["a",18446744073709551615,18446744073709551615],["a",1,2]]},"stable":{"unknown":1}}"#,
    );
    assert_eq!(hostile.covered(), Duration::ZERO);
    let layout = HistoryLayout::of([&hostile].into_iter());
    let mut totals = Samples::default();
    for _ in 0..100 {
        totals = totals.with_part(&layout.samples(&hostile), 3_599, 3_600);
        let tally = Question::Errors(Errors::default()).tally(&totals.canary);
        assert!(tally.bad <= tally.requests);
    }
    assert_eq!(layout.samples(&RecordedCounts::default()).canary.requests(), 0);
}

#[test]
fn what_the_canarys_clients_did_is_kept_and_adds_up() {
    let groups = |each: u64| {
        (0..64_u64).map(|group| Tally { requests: each * group, bad: each * (group / 8) }).collect::<Vec<_>>()
    };
    let with = |clients| Sample { clients, ..sample() };
    let line = |clients| {
        let seen = Samples { canary: with(clients), stable: with(groups(9)) };
        let counts = RecordedCounts::of(&seen, &[], &Blocks::default(), None);
        read(&serde_json::to_string(&counts).unwrap())
    };
    let lines = [line(groups(2)), line(vec![Tally::default(); 64]), line(groups(1))];
    assert!(lines[1].canary.clients.is_empty());
    let layout = HistoryLayout::of(lines.iter());
    let totals = lines.iter().fold(Samples::default(), |totals, line| totals.with_part(&layout.samples(line), 1, 1));
    assert_eq!((totals.canary.clients, totals.stable.clients), (groups(3), Vec::new()));
}

#[test]
fn a_version_with_many_endpoints_is_kept_as_a_whole() {
    let endpoint = |id| EndpointTally { id, name: format!("e{id}").into(), tally: Tally { requests: 1, bad: 1 } };
    let of = |count| {
        let canary = Sample { endpoints: (0..count).map(endpoint).collect(), ..sample() };
        let seen = Samples { canary, stable: Sample::default() };
        let counts = RecordedCounts::of(&seen, &[], &Blocks::default(), None);
        HistoryLayout::of([&counts].into_iter()).samples(&counts).canary.endpoints.len()
    };
    assert_eq!((of(16), of(17)), (16, 0));
}
