//! When names are due, what failures keep, and what is told of it, in simulated time.

use super::*;
use crate::control::resolve::lookup::Missing;

const SECOND: Duration = Duration::from_secs(1);

/// A table with names, and its clock.
struct World {
    table: Table,
    start: Instant,
    now: Duration,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let mut world = Self { table: Table::default(), start: Instant::now(), now: Duration::ZERO };
        let now = world.start;
        world.table.include(&wanted(names), &Dns::default(), now);
        world
    }

    /// The names that are due, all of them taken.
    fn due(&mut self) -> Vec<String> {
        let (due, _) = self.table.take_due(self.start + self.now, usize::MAX);
        due.into_iter().map(|(name, _)| name).collect()
    }

    fn note(&mut self, name: &str, outcome: Result<Answer, NoAnswer>) -> Change {
        let wall = SystemTime::UNIX_EPOCH + self.now;
        self.table.note(name, outcome, (self.start + self.now, wall), 0)
    }

    /// How long until the next name is due.
    fn wait(&self) -> Duration {
        self.table.next_due().unwrap() - (self.start + self.now)
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        let resolved = self.table.resolved([&name.to_owned()].into_iter());
        resolved[name].iter().map(|one| one.address.to_string()).collect()
    }
}

fn wanted(names: &[&str]) -> Wanted {
    let question = |name: &str| Question::Addresses { host: name.to_owned(), port: 80 };
    let wanted = |name: &str| WantedName { question: question(name), services: vec!["shop".into()] };
    names.iter().map(|name| ((*name).to_owned(), wanted(name))).collect()
}

fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, NoAnswer> {
    let addresses = addresses.iter().map(|address| address.parse::<std::net::SocketAddr>().unwrap().into()).collect();
    Ok(Answer { addresses, ttl: Duration::from_secs(ttl), missing: Missing::default() })
}

#[test]
fn an_answer_holds_for_its_ttl_within_the_bounds() {
    for (ttl, expected) in [(0, 1), (1, 1), (7, 7), (30, 30), (31, 30), (86_400, 30)] {
        let mut world = World::new(&["a"]);
        assert_eq!(world.due(), ["a"], "what is new is due at once");
        assert_eq!(world.due(), [""; 0], "what is being looked up is not due");
        assert_eq!(world.note("a", answer(&["10.0.0.1:80"], ttl)), Change::Addresses);
        assert_eq!(world.wait(), SECOND * expected, "a TTL of {ttl} s");
        world.now += SECOND * expected - Duration::from_nanos(1);
        assert_eq!(world.due(), [""; 0]);
        world.now += Duration::from_nanos(1);
        assert_eq!(world.due(), ["a"]);
        assert_eq!(world.note("a", answer(&["10.0.0.1:80"], ttl)), Change::None, "the same again");
    }
}

#[test]
fn chance_adds_a_tenth_at_most_and_takes_nothing() {
    for random in 0..1_000 {
        let mut world = World::new(&["a"]);
        world.due();
        world.table.note("a", answer(&["10.0.0.1:80"], 10), (world.start, SystemTime::UNIX_EPOCH), random);
        assert!((SECOND * 10..=SECOND * 11).contains(&world.wait()), "{random}: {:?}", world.wait());
    }
}

#[test]
fn after_failures_a_name_is_asked_for_less_and_less_often_until_it_is_there() {
    let mut world = World::new(&["a"]);
    world.due();
    let mut waits = Vec::new();
    for at in 0..40 {
        let change = world.note("a", Err(NoAnswer::timeout()));
        let first = Change::Lost { why: NoAnswer::timeout(), kept: 0 };
        assert_eq!(change, if at == 0 { first } else { Change::None }, "said once");
        waits.push(world.wait().as_secs());
        world.now += world.wait();
        assert_eq!(world.due(), ["a"]);
    }
    assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert!(waits[7..].iter().all(|wait| *wait == 30));
    let recovered = world.note("a", answer(&["10.0.0.1:80"], 5));
    assert_eq!(recovered, Change::Recovered { addresses_changed: true });
    world.now += world.wait();
    world.due();
    world.note("a", Err(NoAnswer::timeout()));
    assert_eq!(world.wait(), SECOND, "failures are counted anew");
}

#[test]
fn no_failure_takes_an_address_away() {
    let mut world = World::new(&["a"]);
    world.due();
    world.note("a", answer(&["10.0.0.1:80", "[fd00::1]:80"], 5));
    let answered = world.table.list()[0].answered;
    for why in [NoAnswer::no_name(), NoAnswer::empty(), NoAnswer::failed("x"), NoAnswer::timeout()] {
        world.now += SECOND;
        assert_eq!(
            world.note("a", Err(why.clone())),
            Change::Lost { why: why.clone(), kept: 2 },
            "said for each reason"
        );
        assert_eq!(world.note("a", Err(why.clone())), Change::None);
        assert_eq!(world.addresses("a"), ["10.0.0.1:80", "[fd00::1]:80"]);
        let state = &world.table.list()[0];
        assert_eq!((state.answered, state.trouble.clone()), (answered, Some(why.to_string())));
    }
    let recovered = world.note(
        "a",
        answer(&["[fd00::1]:80", "10.0.0.1:80"], 5).map(|mut answer| {
            answer.addresses.sort();
            answer
        }),
    );
    assert_eq!(recovered, Change::Recovered { addresses_changed: false });
}

#[test]
fn a_family_that_could_not_be_asked_for_stays_as_it_was() {
    let mut world = World::new(&["a"]);
    world.note("a", answer(&["10.0.0.1:80", "[fd00::1]:80"], 5));
    let mut half = answer(&["10.0.0.2:80"], 5).unwrap();
    half.missing = Missing { v4: false, v6: true };
    assert_eq!(world.note("a", Ok(half)), Change::Addresses);
    assert_eq!(world.addresses("a"), ["10.0.0.2:80", "[fd00::1]:80"]);
    assert_eq!(world.note("a", answer(&["10.0.0.2:80"], 5)), Change::Addresses);
    assert_eq!(world.addresses("a"), ["10.0.0.2:80"], "now it is known that there is none");
}

#[test]
fn names_that_are_not_wanted_any_more_are_forgotten_whatever_comes_of_them() {
    let mut world = World::new(&["a", "b"]);
    assert_eq!(world.due(), ["a", "b"]);
    assert!(!world.table.all_were_tried());
    world.note("b", Err(NoAnswer::no_name()));
    world.table.keep(&wanted(&["b"]), &Dns::default(), world.start);
    assert!(world.table.all_were_tried());
    assert_eq!(world.note("a", answer(&["10.0.0.1:80"], 5)), Change::None, "it comes too late");
    assert_eq!(world.table.list().iter().map(|state| &*state.name).collect::<Vec<_>>(), ["b"]);
    // Wanted again while the old lookup is still under way: it stands in the queue once.
    world.table.include(&wanted(&["a"]), &Dns::default(), world.start);
    assert_eq!(world.note("a", answer(&["10.0.0.1:80"], 5)), Change::Addresses);
    world.now += SECOND * 60;
    assert_eq!(world.due(), ["b", "a"]);
    assert_eq!(world.due(), [""; 0]);
}

#[test]
fn other_settings_ask_for_every_name_anew() {
    let mut world = World::new(&["a", "b", "c"]);
    world.due();
    world.note("a", answer(&["10.0.0.1:80"], 20));
    world.note("b", Err(NoAnswer::timeout()));
    let settings = Dns { family: crate::config::AddressFamily::Ipv4, ..Dns::default() };
    world.table.keep(&wanted(&["a", "b", "c"]), &settings, world.start);
    assert_eq!(world.due(), ["a", "b"], "c is under way already");
}

#[test]
fn no_more_names_are_taken_than_there_is_room_for() {
    let mut world = World::new(&["a", "b", "c"]);
    let names = |world: &mut World, room| world.table.take_due(world.start, room).0.len();
    assert_eq!([names(&mut world, 2), names(&mut world, 0), names(&mut world, 2)], [2, 0, 1]);
}
