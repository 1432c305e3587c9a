//! Invalid files with the exact text that a person sees for each.

use super::{golden, repository, updating};
use crate::config::parse;

/// The variables that the invalid files may use. The secret must never be seen again.
fn variables(name: &str) -> Option<String> {
    match name {
        "WEIR_TEST_SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

#[test]
fn every_invalid_file_has_its_exact_diagnostics() {
    let mut names: Vec<String> = std::fs::read_dir(repository("tests/data/config"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 24, "{}", names.len());
    let mut differs = Vec::new();
    for name in names {
        let content = std::fs::read(repository("tests/data/config").join(&name)).unwrap();
        let Err(diagnostics) = parse(name.as_ref(), &content, &variables) else {
            differs.push(format!("{name} is valid"));
            continue;
        };
        let text = format!("{diagnostics}\n");
        assert!(!text.contains("hunter2"), "{name} shows what came from the environment:\n{text}");
        assert!(!format!("{:?}", diagnostics.to_json()).contains("hunter2"), "{name}");
        let golden_name = name.replace(".yaml", ".txt");
        differs.extend(golden(&format!("tests/data/config/{golden_name}"), &text).err());
    }
    assert!(differs.is_empty(), "{}", differs.join("\n"));
    assert!(!updating() || std::env::var_os("CI").is_none(), "golden files are not written by the checks");
}
