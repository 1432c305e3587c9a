//! What the packaging promises: Weir runs without root and without a writable root, has time to stop, is probed where
//! it listens, and its configuration arrives when it is edited.
//!
//! The manifests are read as data. Where `kubectl` and `systemd-analyze` exist they judge as well, offline; where they
//! do not, the test says so and is content with what it has read.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use crate::harness::Fixture as _;
use crate::tidy::root;

mod kubernetes {
    use super::*;

    #[test]
    fn the_configurations_are_accepted() {
        for overlay in ["edge", "sidecar"] {
            let file = root().join(format!("conf/kubernetes/{overlay}/weir.yaml"));
            let mut check = Command::new(env!("CARGO_BIN_EXE_weir"));
            let result = check.args(["check", "--offline", "-c"]).arg(&file).output().unwrap();
            let remarks = String::from_utf8_lossy(&result.stderr);
            assert!(result.status.success() && remarks.is_empty(), "{}: {remarks}", file.display());
        }
    }

    #[test]
    fn a_pod_has_more_time_to_stop_than_weir_needs() {
        for (overlay, pod) in [("edge", edge()), ("sidecar", sidecar())] {
            let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
            let deadline = humantime::parse_duration(text(&configuration(overlay)["shutdown"]["deadline"])).unwrap();
            assert!(grace > deadline, "{overlay}: {grace:?} to stop, {deadline:?} needed");
        }
    }

    #[test]
    fn probes_and_scrapes_go_where_telemetry_listens() {
        for (overlay, container) in [("edge", edge()["containers"][0].clone()), ("sidecar", weir_of(&sidecar()))] {
            let port = port_of(text(&configuration(overlay)["telemetry"]["address"]));
            let probe = |name: &str| {
                let get = &container[name]["httpGet"];
                assert_eq!(get["port"], "telemetry", "{overlay}: {name}");
                text(&get["path"]).to_owned()
            };
            assert_eq!(probe("livenessProbe"), "/livez", "a draining Weir is alive");
            assert_eq!(probe("readinessProbe"), "/readyz");
            assert!(["/livez", "/readyz"].contains(&&*probe("startupProbe")));
            assert_eq!(container_port(&container, "telemetry"), Some(port), "{overlay}");
        }
        for file in ["base/statefulset.yaml", "sidecar/statefulset.yaml"] {
            let annotations = manifest(file)["spec"]["template"]["metadata"]["annotations"].clone();
            assert_eq!(annotations["prometheus.io/port"], "9902", "{file}");
            assert_eq!(annotations["prometheus.io/path"], "/metrics", "{file}");
        }
    }

    #[test]
    fn the_service_leads_to_a_listener() {
        let ports = &manifest("base/service.yaml")["spec"]["ports"];
        let target = text(&ports[0]["targetPort"]);
        let listener = text(&configuration("edge")["listeners"][0]["address"]).to_owned();
        assert_eq!(container_port(&edge()["containers"][0], target), Some(port_of(&listener)));
    }

    #[test]
    fn no_container_has_more_rights_than_it_needs() {
        for pod in [edge(), sidecar()] {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["automountServiceAccountToken"], false);
            for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
                let rights = &container["securityContext"];
                assert_eq!(rights["readOnlyRootFilesystem"], true, "{}", container["name"]);
                assert_eq!(rights["allowPrivilegeEscalation"], false, "{}", container["name"]);
                assert_eq!(rights["capabilities"]["drop"][0], "ALL", "{}", container["name"]);
                assert!(container["resources"]["limits"]["memory"].is_string(), "{}", container["name"]);
            }
        }
    }

    #[test]
    fn the_configuration_is_mounted_as_a_directory_that_follows_edits() {
        for (overlay, container) in [("edge", edge()["containers"][0].clone()), ("sidecar", weir_of(&sidecar()))] {
            let mounts = list(&container["volumeMounts"]);
            assert!(mounts.iter().all(|mount| mount["subPath"].is_null()), "{overlay}: a subPath never changes");
            assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/weir"), "{overlay}");
            let options = &manifest(&format!("{overlay}/kustomization.yaml"))["generatorOptions"];
            assert_eq!(options["disableNameSuffixHash"], true, "{overlay}: an edit would restart the pods");
        }
    }

    #[test]
    fn the_state_is_kept_where_a_volume_is_mounted() {
        for (overlay, container) in [("edge", edge()["containers"][0].clone()), ("sidecar", weir_of(&sidecar()))] {
            let directory = text(&configuration(overlay)["state"]["directory"]).to_owned();
            let mounts = list(&container["volumeMounts"]);
            assert!(mounts.iter().any(|m| m["mountPath"] == *directory && m["readOnly"] != true), "{overlay}");
        }
    }

    #[test]
    fn what_was_decided_outlives_the_pod_and_the_configuration_says_what_is_stable_without_it() {
        for (overlay, file, container) in [
            ("edge", "base/statefulset.yaml", edge()["containers"][0].clone()),
            ("sidecar", "sidecar/statefulset.yaml", weir_of(&sidecar())),
        ] {
            let set = manifest(file);
            assert_eq!(set["kind"], "StatefulSet", "{overlay}: a pod finds the volume of the one before");
            let directory = text(&configuration(overlay)["state"]["directory"]).to_owned();
            let mounts = list(&container["volumeMounts"]);
            let mount = mounts.iter().find(|mount| mount["mountPath"] == *directory).unwrap();
            let claims = list(&set["spec"]["volumeClaimTemplates"]);
            let claim = claims.iter().find(|claim| claim["metadata"]["name"] == mount["name"]).unwrap();
            assert!(claim["spec"]["resources"]["requests"]["storage"].is_string(), "{overlay}");
            assert!(
                list(&set["spec"]["template"]["spec"]["volumes"]).iter().all(|v| v["emptyDir"].is_null()),
                "{overlay}"
            );
            let pods = manifest(&format!("{}/pods.yaml", if overlay == "edge" { "base" } else { overlay }));
            assert_eq!(set["spec"]["serviceName"], pods["metadata"]["name"], "{overlay}");
            for (name, service) in configuration(overlay)["services"].as_object().unwrap() {
                assert!(service["stable"].is_string() && service["rollout"].is_object(), "{overlay}: {name}");
            }
        }
    }

    #[test]
    fn traffic_never_lacks_a_ready_pod() {
        // A StatefulSet replaces one pod at a time, and the next only when that one is ready.
        let spec = manifest("base/statefulset.yaml")["spec"].clone();
        assert_eq!(spec["updateStrategy"]["type"], "RollingUpdate");
        assert!(spec["updateStrategy"]["rollingUpdate"].is_null(), "no partition, and one at a time");
        assert_eq!(manifest("base/poddisruptionbudget.yaml")["spec"]["maxUnavailable"], 1);
        let replicas = manifest("edge/kustomization.yaml")["replicas"][0]["count"].as_u64().unwrap();
        assert!(replicas >= 2, "one replica cannot be disrupted without an outage");
    }

    #[test]
    fn a_sidecar_starts_first_and_stops_last() {
        let pod = sidecar();
        assert_eq!(weir_of(&pod)["restartPolicy"], "Always", "this is what makes an init container a sidecar");
        assert_eq!(weir_of(&pod)["startupProbe"]["httpGet"]["path"], "/readyz", "the application waits for this");
    }

    #[test]
    fn kustomize_renders_each_overlay() {
        for (overlay, config_map) in [("edge", "weir"), ("sidecar", "storefront-weir")] {
            let Some(rendered) = run("kubectl", &["kustomize"], &root().join("conf/kubernetes").join(overlay)) else {
                continue;
            };
            let rendered = String::from_utf8(rendered.stdout).unwrap();
            let documents = serde_yaml::Deserializer::from_str(&rendered);
            let objects: Vec<Value> = documents.map(|document| Value::deserialize(document).unwrap()).collect();
            let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
            assert_eq!(of_kind("ConfigMap")["metadata"]["name"], config_map, "no hash in the name");
            let embedded = text(&of_kind("ConfigMap")["data"]["weir.yaml"]);
            assert_eq!(embedded, fs::read_to_string(configuration_file(overlay)).unwrap());

            let set = of_kind("StatefulSet");
            let pod = &set["spec"]["template"];
            assert_eq!(set["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"], "selects its pods");
            let volumes = list(&pod["spec"]["volumes"]);
            assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == config_map), "{volumes:?}");
            for container in list(&pod["spec"]["containers"]).iter().chain(list(&pod["spec"]["initContainers"])) {
                let tag = text(&container["image"]).rsplit_once(':').map(|(_, tag)| tag);
                assert!(tag.is_some_and(|tag| tag != "latest"), "{} has no fixed tag", container["image"]);
            }
        }
    }

    fn edge() -> Value {
        manifest("base/statefulset.yaml")["spec"]["template"]["spec"].clone()
    }

    fn sidecar() -> Value {
        manifest("sidecar/statefulset.yaml")["spec"]["template"]["spec"].clone()
    }

    fn weir_of(pod: &Value) -> Value {
        list(&pod["initContainers"]).iter().find(|container| container["name"] == "weir").unwrap().clone()
    }

    fn manifest(file: &str) -> Value {
        yaml(&root().join("conf/kubernetes").join(file))
    }

    fn configuration_file(overlay: &str) -> std::path::PathBuf {
        root().join("conf/kubernetes").join(overlay).join("weir.yaml")
    }

    fn configuration(overlay: &str) -> Value {
        yaml(&configuration_file(overlay))
    }

    fn container_port(container: &Value, name: &str) -> Option<u64> {
        let ports = list(&container["ports"]);
        ports.iter().find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
    }

    fn port_of(address: &str) -> u64 {
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

mod docker {
    use super::*;

    #[test]
    fn the_image_runs_as_nobody_and_is_asked_for_its_health() {
        let stage = final_stage();
        let last = |instruction: &str| stage.iter().rev().find_map(|line| line.strip_prefix(instruction));
        assert_eq!(last("USER "), Some("65532:65532"), "a number that is not root");
        assert_eq!(last("STOPSIGNAL "), Some("SIGTERM"));
        assert!(
            last("HEALTHCHECK ").is_some_and(|line| line.ends_with(r#"CMD ["/usr/local/bin/weir", "healthcheck"]"#))
        );
        assert_eq!(last("ENTRYPOINT "), Some(r#"["/usr/local/bin/weir"]"#));
        assert_eq!(last("CMD "), Some(r#"["run", "-c", "/etc/weir/weir.yaml"]"#));
        assert_eq!(last("VOLUME "), Some(r#"["/var/lib/weir"]"#), "the one place it writes to");
        assert!(!stage.iter().any(|line| line.starts_with("RUN ")), "the final image has no shell");
    }

    #[test]
    fn every_base_image_has_a_fixed_tag() {
        let wanted = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let wanted = wanted.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
        let mut images = 0;
        for line in instructions() {
            let Some(image) = line.strip_prefix("FROM ").and_then(|rest| rest.split_whitespace().next()) else {
                continue;
            };
            let tag = image.rsplit_once(':').map(|(_, tag)| tag);
            assert!(tag.is_some_and(|tag| tag != "latest"), "{image}");
            if image.starts_with("rust:") {
                assert!(image.starts_with(&format!("rust:{wanted}-")), "{image}, but Cargo.toml wants {wanted}");
            }
            images += 1;
        }
        assert_eq!(images, 2, "a stage that builds and a stage that runs");
    }

    #[test]
    fn the_builder_gets_what_it_copies_and_nothing_else() {
        let ignore = fs::read_to_string(root().join(".dockerignore")).unwrap();
        assert!(ignore.lines().any(|line| line == "*"), "everything is left out that is not named");
        for line in instructions().iter().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
            let mut paths: Vec<&str> = line.split_whitespace().skip(1).collect();
            paths.pop();
            for path in paths {
                assert!(ignore.lines().any(|line| line == format!("!{path}")), ".dockerignore leaves {path} out");
            }
        }
    }

    fn final_stage() -> Vec<String> {
        let lines = instructions();
        let from = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
        lines[from..].to_vec()
    }

    /// The instructions, one line each, without comments.
    fn instructions() -> Vec<String> {
        let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
        let joined = regex::Regex::new(r"\\\n\s*").unwrap().replace_all(&lines, "").into_owned();
        joined.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

mod systemd {
    use super::*;

    #[test]
    fn the_unit_is_told_when_weir_is_ready_and_gives_it_time_to_stop() {
        let unit = unit();
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
        assert_eq!(value("Type"), "notify");
        assert_eq!(value("ExecReload"), "/bin/kill -HUP $MAINPID");
        assert_eq!(value("KillSignal"), "SIGTERM");
        assert_eq!(value("KillMode"), "mixed");
        assert_eq!(value("DynamicUser"), "yes");
        assert_eq!(value("ProtectSystem"), "strict");
        assert_eq!(value("StateDirectory"), "weir");
        assert_eq!(value("AmbientCapabilities"), "CAP_NET_BIND_SERVICE");
        let stop = humantime::parse_duration(value("TimeoutStopSec")).unwrap();
        assert!(stop > Duration::from_secs(25), "the default of shutdown.deadline is 25 s");
    }

    #[test]
    fn systemd_finds_nothing_wrong_with_the_unit() {
        // It also looks for the program, so the copy that is judged names the one that was built.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.service");
        fs::write(&file, unit().changed("/usr/local/bin/weir", env!("CARGO_BIN_EXE_weir"))).unwrap();
        if let Some(verdict) = run("systemd-analyze", &["verify", "--man=no"], &file) {
            let remarks = String::from_utf8_lossy(&verdict.stderr);
            assert!(!remarks.contains("weir.service"), "systemd-analyze verify: {remarks}");
        }
    }

    fn unit() -> String {
        fs::read_to_string(root().join("conf/systemd/weir.service")).unwrap()
    }
}

/// What the tool, which must succeed, says about `path`; none where there is no such tool.
fn run(tool: &str, arguments: &[&str], path: &Path) -> Option<Output> {
    if Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("no {tool} here: {} was read but not judged by it", path.display());
        return None;
    }
    let result = Command::new(tool).args(arguments).arg(path).output().unwrap();
    assert!(result.status.success(), "{tool}: {}", String::from_utf8_lossy(&result.stderr));
    Some(result)
}

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
