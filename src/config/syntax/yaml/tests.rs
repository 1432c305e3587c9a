//! What hostile files cost, in values and bytes that were made; and what good ones may.

use std::fmt::Write as _;

use super::*;

/// Bytes that are held when parsing ended, however it did.
fn held(tree: &Builder<'_>) -> usize {
    let open = |open: &OpenCollection<'_>| match &open.kind {
        Collection::List(items) => items.iter().map(|node| node.measure().bytes).sum(),
        Collection::Map(entries, _) => entries
            .iter()
            .map(|(key, node)| size_of::<Key<'_>>() + key.text.len() + node.measure().bytes)
            .sum::<usize>(),
    };
    tree.open.iter().map(open).sum::<usize>()
        + tree.anchors.values().map(|(node, _)| node.measure().bytes).sum::<usize>()
        + tree.root.iter().chain(&tree.finished).map(|node| node.measure().bytes).sum::<usize>()
}

/// What became of `source`, and what it cost.
fn cost(source: &str) -> (Result<(), String>, usize) {
    let mut tree = Builder::default();
    let outcome = build(source, &mut tree).map_err(|problem| format!("{problem:?}"));
    assert!(tree.copied <= MAX_COPIED || outcome.is_err());
    (outcome, held(&tree))
}

/// The most that a file of this size may take.
fn most(source: &str) -> usize {
    MAX_COPIED + TREE_ALWAYS + source.len() * (TREE_PER_BYTE + 1)
}

fn refused(name: &str, source: &str, why: &str) {
    let (outcome, held) = cost(source);
    let said = outcome.expect_err(name);
    assert!(said.contains(why) && said.contains("line: "), "{name}: {said}");
    assert!(held <= most(source), "{name}: {} bytes of text became {held}", source.len());
}

/// Each level repeats the one below, `times` times.
fn levels(first: &str, times: usize, depth: usize, item: impl Fn(usize, &str) -> String) -> String {
    let mut bomb = format!("a0: &a0 {first}\n");
    for level in 1..depth {
        writeln!(bomb, "{}", item(level, &vec![format!("*a{}", level - 1); times].join(", "))).unwrap();
    }
    bomb
}

#[test]
fn bombs_are_refused_before_they_are_made() {
    let list = |level: usize, items: &str| format!("a{level}: &a{level} [{items}]");
    let fields = |level: usize, items: &str| {
        let fields = items.split(", ").enumerate().map(|(at, item)| format!("k{at}: {item}"));
        format!("a{level}: &a{level} {{ {} }}", fields.collect::<Vec<_>>().join(", "))
    };
    let repeated = "aliases included";
    refused("laughs", &levels("[x, x, x, x, x, x, x, x, x, x]", 10, 12, list), repeated);
    refused("laughs of fields", &levels("{ x: y }", 9, 12, fields), repeated);
    refused("twins", &levels("[x]", 2, 31, list), repeated);
    let one = format!("a0: &a0 {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a0"; 10_000].join(","));
    refused("a long text", &one, repeated);
    let escaped = format!("a0: &a0 \"{}\"\nb: [{}]\n", "\\n".repeat(50_000), vec!["*a0"; 10_000].join(","));
    refused("a long text that is its own", &escaped, repeated);
    let wide = format!("a0: &a0 [{}]\nb: [{}]\n", vec!["x"; 1_000].join(","), vec!["*a0"; 1_000].join(","));
    refused("quadratic", &wide, repeated);
    let many = (0..400).fold(String::new(), |mut out, at| {
        writeln!(
            out,
            "a{at}: &a{at} [{}]\nb{at}: [{}]",
            vec!["x"; 40].join(","),
            vec![format!("*a{at}"); 40].join(",")
        )
        .unwrap();
        out
    });
    refused("many small ones", &many, repeated);
    // Every anchor keeps a copy of all anchors inside of it.
    let inner = format!("[{}]", vec!["xxxxxxxx"; 50_000].join(","));
    let nested = (0..30).fold(inner, |inner, at| format!("&a{at} [{inner}]"));
    refused("anchors of anchors", &nested, repeated);
    let anchors = format!("[{}]", (0..300_000).map(|at| format!("&a{at} x")).collect::<Vec<_>>().join(","));
    let (outcome, held) = cost(&anchors);
    assert!(outcome.is_ok() && held <= most(&anchors), "an anchor on each value: {held}");
}

#[test]
fn files_that_are_all_values_are_refused_before_they_are_made() {
    let why = "more values than a file of its size";
    for (name, source) in [
        ("a list", format!("[{}]", "a,".repeat(2_000_000))),
        ("fields", format!("{{{}}}", "a,".repeat(1_000_000))),
        ("lists", format!("[{}]", "[],".repeat(1_000_000))),
        ("fields of nothing", "a:\n".repeat(1_000_000)),
    ] {
        refused(name, &source, why);
    }
    for deep in ["[".repeat(1_000_000), "{a: ".repeat(1_000_000), "- ".repeat(1_000_000), "&a [".repeat(1_000_000)] {
        let (outcome, held) = cost(&deep);
        assert!(outcome.is_err() && held < 10_000, "{held}");
    }
}

#[test]
fn a_good_file_with_anchors_and_many_routes_is_read() {
    let mut file = String::from("version: 1\nlisteners: [{ name: web, address: 127.0.0.1:8080 }]\nservices:\n");
    writeln!(file, "  s0: &s {{ versions: {{ v1: {{ endpoints: &e [\"10.0.0.1:80\", \"10.0.0.2:80\"] }}, v2: {{ endpoints: *e }} }},").unwrap();
    writeln!(file, "    split: {{ v1: 100 }}, timeouts: {{ connect: 1s, idle: 60s }}, drain: {{ requests: 30s }} }}")
        .unwrap();
    (1..10_000).for_each(|at| writeln!(file, "  s{at}: *s").unwrap());
    writeln!(file, "routes:").unwrap();
    for at in 0..10_000 {
        let headers = if at == 0 { "&h { x-a: { present: true }, x-b: \"1\" }" } else { "*h" };
        writeln!(file, "  - {{ match: {{ host: h{at}.example.com, path: /p, headers: {headers} }}, service: s{at} }}")
            .unwrap();
    }
    let (outcome, held) = cost(&file);
    outcome.unwrap();
    assert!(held < MAX_COPIED + file.len() * TREE_PER_BYTE, "{held}");
    let config = crate::config::parse("weir.yaml".as_ref(), file.as_bytes(), &|_: &str| None);
    assert_eq!(config.unwrap_or_else(|wrong| panic!("{wrong}")).routes.len(), 10_000);
}

#[test]
fn a_long_text_with_a_dollar_sign_is_not_made_again_and_again() {
    for text in ["$", "${X:-y}", "$$"] {
        let text = format!("{}{text}", "x".repeat(20_000));
        let source = format!("a: &a \"{text}\"\nb: [{}]\n", vec!["*a"; 1_500].join(","));
        let mut root = parse(&source).unwrap();
        crate::config::syntax::environment::substitute(&mut root, &|_: &str| None);
        let Value::List(items) = &root.field("b").unwrap().1.value else { panic!("a list") };
        let made = items.iter().filter(|item| matches!(&item.value, Value::Text(text) if text.written.is_some()));
        let made = made.count() * text.len();
        assert!((1..=16 << 20).contains(&made), "{made}");
        assert!(matches!(items.last().unwrap().value, Value::Broken(_)), "and it is said");
    }
}
