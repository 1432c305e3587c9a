//! `weir import`: what it prints for files as people write them is a configuration that `weir check` accepts.

use std::path::{Path, PathBuf};

use crate::harness::run_weir;

/// The files of one importer that are not refused.
fn inputs(importer: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(importer);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|file| golden(file).exists()).collect();
    files.sort();
    files
}

fn golden(input: &Path) -> PathBuf {
    input.with_extension("weir.yaml")
}

#[tokio::test]
async fn what_is_imported_is_a_configuration() {
    for importer in ["flagger", "argo"] {
        let inputs = inputs(importer);
        assert!(inputs.len() >= 18, "{inputs:?}");
        for input in inputs {
            let imported = run_weir(&["import", importer, input.to_str().unwrap()]).await;
            assert!(imported.status.success(), "{}: {imported:?}", input.display());
            let printed = String::from_utf8(imported.stdout).unwrap();
            // The files are named as they were typed, which changes where comments are wrapped.
            let name = input.file_name().unwrap().to_str().unwrap();
            let values = |text: &str| -> Vec<String> {
                text.lines().filter(|line| !line.trim_start().starts_with("# ")).map(str::to_owned).collect()
            };
            let expected = std::fs::read_to_string(golden(&input)).unwrap();
            assert_eq!(values(&printed), values(&expected), "{name}");
            let checked = run_weir(&["check", "--offline", "-c", golden(&input).to_str().unwrap()]).await;
            assert!(checked.status.success(), "{name}: {checked:?}");
            // A check that cannot work yet is a comment, with what is to be decided before it.
            let dormant = expected.lines().any(|line| line.trim_start().starts_with("# - { name: "));
            assert!(!dormant || expected.contains("DECIDE: "), "{name}");
        }
    }
}

#[tokio::test]
async fn several_files_are_imported_as_one_and_each_fault_names_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let canary = write(
        "canary.yaml",
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: { name: shop }\nspec:\n  service: { port: 80 }\n  analysis:\n    \
         stepWeight: 10\n    metrics:\n      - { name: own, templateRef: { name: own }, thresholdRange: { max: 1 } }\n",
    );
    let template = "apiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: { name: own }\nspec:\n  provider: { type: \
                    prometheus, address: ADDRESS }\n  query: up\n";
    let metrics = write("metrics.yaml", &template.replace("ADDRESS", "'http://prometheus:9090'"));
    let both = run_weir(&["import", "flagger", &canary, &metrics]).await;
    assert!(both.status.success(), "{both:?}");
    let printed = String::from_utf8(both.stdout).unwrap();
    assert!(printed.contains(r#"- { name: own, prometheus: { url: "http://prometheus:9090", query: "up" }, max: 1 }"#));

    let wrong = write("wrong.yaml", &template.replace("type: prometheus", "kind: prometheus"));
    let refused = run_weir(&["import", "flagger", &canary, &wrong]).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("wrong.yaml:5: a provider has no `type`"), "{said}");
}
